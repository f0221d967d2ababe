/**
 * Starts the command line: from its bundle, which is read in a third of the time, when that was made of the sources as they are,
 * and else from the sources. Plain JavaScript, because a loader for types costs as much as the rest, and CommonJS, because
 * to import a module of Node makes all that it exports, while to require it makes only what is used.
 */
const { mkdirSync, statSync } = require('node:fs')
const { enableCompileCache } = require('node:module')
const { join } = require('node:path')
const { isFresh } = require('./fresh.cjs')

const cache = cacheFolder(process.env)
if (cache !== undefined) {
  enableCompileCache(cache)
  process.env.NODE_COMPILE_CACHE ??= cache // for the services that `up` starts
}
const dist = join(__dirname, 'dist')
if (isFresh(dist)) require(`${dist}/main.cjs`)
else void import('./main.ts')

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
