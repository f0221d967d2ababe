/** Once a run: a registry that holds the image all suites pull. */
import type { TestProject } from 'vitest/node'
import { makeImage } from './image.ts'
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
  const registry = await startRegistry()
  project.provide('registry', registry.host)
  project.provide('image', await registry.push('busybox', '1', makeImage()))
  return async () => registry[Symbol.asyncDispose]()
}
