/** A folder in memory, so that no test waits for the disk of the host: every record that is written is synced to it. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isInBackground, pidsOf, startOf } from './leaks.ts'

const NEEDED_KIB = 4 * 1024 * 1024 // of available memory: no file of tests fills as much as 2 GiB of the folder
const COMPILED = 'node-compile-cache' // npm's

/**
 * From now on temporary folders of this process and its children are made in memory, where there is enough of it.
 * Disposing takes it away again, unless a test that failed has left something to look at. What runs that are over have left
 * goes first.
 */
export function openMemoryFolder(): Disposable {
  for (const folder of foldersOfTheDead()) takeAway(folder)
  const available = Number(/^MemAvailable:\s*(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1])
  if (!(available >= NEEDED_KIB)) return { [Symbol.dispose]: () => undefined }
  const before = process.env.TMPDIR
  const folder = mkdtempSync(join(tmpdir(), 'e2e-'))
  execFileSync('mount', ['-t', 'tmpfs', `gantry-e2e-${process.pid}-${startOf(process.pid)}`, folder])
  process.env.TMPDIR = folder
  return {
    [Symbol.dispose]() {
      if (before === undefined) delete process.env.TMPDIR
      else process.env.TMPDIR = before
      const left = readdirSync(folder).filter((name) => name !== COMPILED)
      if (left.length > 0) return console.warn(`Left in memory at ${folder}, until the next run: ${left.join(', ')}`)
      unmount(folder)
    },
  }
}

/** Their names in the table of mounts say which process made them; those inside of others come first. */
function foldersOfTheDead(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [, pid, start] = / - tmpfs gantry-e2e-(\d+)-(\d+) /.exec(line) ?? []
      return pid === undefined || startOf(Number(pid)) === start ? [] : [line.split(' ')[4] ?? '']
    })
    .reverse()
}

/** With the nodes and registries of a run that was killed; not with who looks at it from a terminal. */
function takeAway(folder: string): void {
  for (
    let round = 0;
    round < 3;
    round++ // what starts others again may have done so
  )
    for (const pid of pidsOf({ dir: folder, namespaces: [] }).filter(isInBackground)) kill(pid)
  unmount(folder)
}

function unmount(folder: string): void {
  execFileSync('umount', ['--lazy', folder]) // whoever ends late does not matter any more
  rmdirSync(folder)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it has ended by itself
  }
}
