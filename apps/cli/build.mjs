/**
 * Bundles the programs: the command line, one file a command, and the services that `gantry up` starts, one file a thread.
 * Each goes into the `dist` of its app, where `start.cjs` and `up/node.ts` prefer it to the sources.
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

/** What each app consists of beside its main program: the threads that it starts. */
const THREADS = {
  cli: {},
  gateway: {},
  metadata: {},
  content: { 'hash-worker': 'blobs/hash-worker.ts' },
  snapshots: { worker: 'extract/worker.ts' },
  tasks: {},
}

/** Two load a binary that lies beside them, one looks for its own parts; the last is what a client of gRPC never asks for. */
const EXTERNAL = ['koffi', 'lmdb', 'pino', '@grpc/proto-loader']

/** Makes `dist` unless it is fresh. It is there as a whole or not at all, and never of older sources. */
export async function build(app, dist) {
  if (isFresh(dist)) return
  rmSync(dist, { recursive: true, force: true })
  const made = `${dist}.${process.pid}`
  try {
    const inputs = await bundleInto(made, app)
    writeFileSync(join(made, 'inputs.json'), JSON.stringify(inputs))
    rmSync(dist, { recursive: true, force: true }) // of who was faster
    renameSync(made, dist)
  } finally {
    rmSync(made, { recursive: true, force: true })
  }
}

/** Returns what it was made of, each source as it was before it was read; the lock file stands for all that others wrote. */
async function bundleInto(folder, app) {
  const { rolldown } = await import('rolldown')
  const inputs = [join(top, 'package-lock.json'), fileURLToPath(import.meta.url)].map((path) => [path, stampOf(path)])
  const noting = {
    name: 'note-sources',
    load(id) {
      if (isAbsolute(id) && !id.includes('/node_modules/')) inputs.push([id, stampOf(id)]) // other ids are the bundler's own
    },
  }
  const files = Object.entries({ main: 'main.ts', ...THREADS[app] })
  const bundle = await rolldown({
    input: Object.fromEntries(files.map(([name, path]) => [name, join(top, 'apps', app, path)])),
    platform: 'node',
    external: EXTERNAL,
    plugins: [noting],
  })
  await bundle.write({ dir: folder, ...(app === 'cli' ? COMMANDS : SERVICE) })
  await bundle.close()
  return inputs
}

const COMMANDS = {
  format: 'cjs',
  entryFileNames: '[name].cjs',
  chunkFileNames: '[name].cjs',
  dynamicImportInCjs: false, // to import a module of Node makes all that it exports
}

/** A module: services await while they are loaded. */
const SERVICE = { format: 'esm', entryFileNames: '[name].mjs', chunkFileNames: '[name].mjs' }

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const app of Object.keys(THREADS))
    await build(app, join(top, 'apps', app, 'dist')).catch((error) => {
      console.error(`${app} is not bundled and runs from its sources, which start more slowly: ${error.message}`)
    })
