/**
 * Starts the command line: from its bundle, which is read in half the time, when that was made of the sources as they are, and else
 * from the sources. Plain JavaScript, because a loader for types costs as much as the rest.
 */
import { mkdirSync, statSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { join } from 'node:path'
import { isFresh } from './fresh.mjs'

const cache = cacheFolder(process.env)
if (cache !== undefined) {
  enableCompileCache(cache)
  process.env.NODE_COMPILE_CACHE ??= cache // for the services that `up` starts
}
const dist = join(import.meta.dirname, 'dist')
await import(isFresh(dist) ? `${dist}/main.mjs` : './main.ts')

/** Where compiled code is kept: it is run unseen, so that the folder must be out of everybody else's reach. */
function cacheFolder({ XDG_CACHE_HOME, HOME }) {
  const parent = XDG_CACHE_HOME || (HOME && join(HOME, '.cache'))
  if (!parent) return undefined
  try {
    const folder = join(parent, 'gantry')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    return [parent, folder].every(isOurs) ? folder : undefined
  } catch {
    return undefined // a home that cannot be written costs time, nothing else
  }
}

function isOurs(folder) {
  const { uid, mode } = statSync(folder)
  return uid === process.getuid() && (mode & 0o022) === 0
}
