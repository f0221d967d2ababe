/** Once a run: the programs as an installation has them, folders in memory, and a registry that holds the image all suites pull. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { WORKSPACE } from './gantry.ts'
import { makeImage } from './image.ts'
import { openMemoryFolder } from './memory-folder.ts'
import { startRegistry } from './registry.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** host:port of the registry */
    registry: string
    /** the reference of the two-layer busybox image */
    image: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  execFileSync(process.execPath, [join(WORKSPACE, 'apps', 'cli', 'build.mjs')], { stdio: 'inherit' })
  await using stack = new AsyncDisposableStack()
  stack.use(openMemoryFolder())
  const registry = stack.use(await startRegistry())
  project.provide('registry', registry.host)
  project.provide('image', await registry.push('busybox', '1', makeImage()))
  const kept = stack.move()
  return () => kept.disposeAsync()
}
