/**
 * Bundles the command line into `dist`: one file a command, one for what they share. `start.mjs` prefers it to the sources.
 *
 *   node build.mjs
 *
 * Runs on the host's own Node too, as part of an installation; without its tool it leaves the sources to be used.
 */
import { renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isFresh, stampOf } from './fresh.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const top = join(here, '..', '..')

/** The first loads a binary that lies beside it; the second, half a megabyte, is what a client of gRPC never asks for. */
const EXTERNAL = ['koffi', '@grpc/proto-loader']

/** Makes `dist` unless it is fresh. It is there as a whole or not at all. */
export async function build(dist) {
  if (isFresh(dist)) return
  const started = Date.now()
  const made = `${dist}.${process.pid}`
  try {
    const inputs = await bundleInto(made)
    if (inputs.some((path) => statSync(path).mtimeMs >= started)) throw new Error('a source changed meanwhile')
    writeFileSync(join(made, 'inputs.json'), JSON.stringify(inputs.map((path) => [path, stampOf(path)])))
    rmSync(dist, { recursive: true, force: true })
    renameSync(made, dist)
  } finally {
    rmSync(made, { recursive: true, force: true })
  }
}

/** Returns what it was made of; the lock file stands for all that others wrote. */
async function bundleInto(folder) {
  const { rolldown } = await import('rolldown')
  const bundle = await rolldown({
    input: join(here, 'main.ts'),
    platform: 'node',
    external: EXTERNAL,
  })
  const { output } = await bundle.write({
    dir: folder,
    format: 'esm',
    entryFileNames: '[name].mjs',
    chunkFileNames: '[name].mjs',
  })
  await bundle.close()
  const modules = output.flatMap(({ moduleIds = [] }) => moduleIds)
  const sources = modules.filter((id) => isAbsolute(id) && !id.includes('/node_modules/')) // others are the bundler's own
  return [...sources, join(top, 'package-lock.json')]
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await build(join(here, 'dist')).catch((error) => {
    console.error(`The command line is not bundled and runs from its sources, more slowly: ${error.message}`)
  })
