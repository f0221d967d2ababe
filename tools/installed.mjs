/**
 * Exits with 0 when node_modules holds what package-lock.json says, with 1 when `npm ci` has to run.
 *
 * Compares what npm noted about its last installation with the lock file; dates say nothing after a checkout.
 * Plain JavaScript: it runs on the host's own Node before anything is installed.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const top = join(dirname(fileURLToPath(import.meta.url)), '..')
process.exitCode = installed() ? 0 : 1

function installed() {
  const notes = join(top, 'node_modules', '.package-lock.json')
  if (!existsSync(notes) || !existsSync(join(top, 'node_modules', '.bin', 'node'))) return false
  const wanted = packages(join(top, 'package-lock.json'))
  const there = packages(notes)
  return wanted.every(([path, entry]) => {
    const found = there.find(([other]) => other === path)?.[1]
    return found ? found.version === entry.version : entry.optional === true
  })
}

/** Packages from a registry; the workspaces' own are folders of this repository. */
function packages(file) {
  return Object.entries(JSON.parse(readFileSync(file, 'utf8')).packages).filter(
    ([path]) => path.startsWith('node_modules/') || path.includes('/node_modules/'),
  )
}
