/**
 * Bundles the command line into `dist`: one file a command, one for what they share. `start.cjs` prefers it to the sources.
 *
 *   node build.mjs
 *
 * Runs on the host's own Node too, as part of an installation; without its tool it leaves the sources to be used.
 */
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isFresh, stampOf } from './fresh.cjs'

const here = dirname(fileURLToPath(import.meta.url))
const top = join(here, '..', '..')

/** The first loads a binary that lies beside it; the second, half a megabyte, is what a client of gRPC never asks for. */
const EXTERNAL = ['koffi', '@grpc/proto-loader']

/** Makes `dist` unless it is fresh. It is there as a whole or not at all. */
export async function build(dist) {
  if (isFresh(dist)) return
  const made = `${dist}.${process.pid}`
  try {
    const inputs = await bundleInto(made)
    writeFileSync(join(made, 'inputs.json'), JSON.stringify(inputs))
    rmSync(dist, { recursive: true, force: true })
    renameSync(made, dist)
  } finally {
    rmSync(made, { recursive: true, force: true })
  }
}

/** Returns what it was made of, each source as it was before it was read; the lock file stands for all that others wrote. */
async function bundleInto(folder) {
  const { rolldown } = await import('rolldown')
  const inputs = [join(top, 'package-lock.json'), fileURLToPath(import.meta.url)].map((path) => [path, stampOf(path)])
  const noting = {
    name: 'note-sources',
    load(id) {
      if (isAbsolute(id) && !id.includes('/node_modules/')) inputs.push([id, stampOf(id)]) // other ids are the bundler's own
    },
  }
  const bundle = await rolldown({
    input: join(here, 'main.ts'),
    platform: 'node',
    external: EXTERNAL,
    plugins: [noting],
  })
  await bundle.write({
    dir: folder,
    format: 'cjs',
    entryFileNames: '[name].cjs',
    chunkFileNames: '[name].cjs',
    dynamicImportInCjs: false, // to import a module of Node makes all that it exports
  })
  await bundle.close()
  return inputs
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await build(join(here, 'dist')).catch((error) => {
    console.error(`The command line is not bundled and runs from its sources, more slowly: ${error.message}`)
  })
