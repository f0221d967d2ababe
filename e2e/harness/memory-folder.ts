/** A folder in memory, so that no test waits for the disk of the host: every record that is written is synced to it. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const NEEDED_KIB = 4 * 1024 * 1024 // of available memory: no file of tests fills as much as 2 GiB of the folder
const COMPILED = 'node-compile-cache' // npm's

/**
 * From now on temporary folders of this process and its children are made in memory, where there is enough of it.
 * Disposing takes it away again, unless a test that failed has left something to look at.
 */
export function openMemoryFolder(): Disposable {
  const available = Number(/^MemAvailable:\s*(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1])
  if (!(available >= NEEDED_KIB)) return { [Symbol.dispose]: () => undefined }
  const before = process.env.TMPDIR
  const folder = mkdtempSync(join(tmpdir(), 'e2e-'))
  execFileSync('mount', ['-t', 'tmpfs', 'gantry-e2e', folder])
  process.env.TMPDIR = folder
  return {
    [Symbol.dispose]() {
      if (before === undefined) delete process.env.TMPDIR
      else process.env.TMPDIR = before
      const left = readdirSync(folder).filter((name) => name !== COMPILED)
      if (left.length > 0) return console.warn(`Left in memory at ${folder}, until it is unmounted: ${left.join(', ')}`)
      execFileSync('umount', ['--lazy', folder]) // whoever ends late does not matter any more
      rmdirSync(folder)
    },
  }
}
