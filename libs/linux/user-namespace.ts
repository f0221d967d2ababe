import { spawn } from 'node:child_process'
import { closeSync, openSync, readlinkSync, writeFileSync } from 'node:fs'
import { Fault } from '@gantry/model/fault'

const WAIT_MS = 10_000 // for a program to start on a busy host
const STEP_MS = 1
const MAX_ID = 0xffff_fffe

/** A range of ids: `length` ids from `inside` on are those from `outside` on. */
export interface IdRange {
  readonly inside: number
  readonly outside: number
  readonly length: number
}

/**
 * Reads a mapping as snapshot labels and mount options have it: `<inside>:<outside>:<length>[,...]`.
 * @throws {Fault} `invalid-argument`
 */
export function parseIdRanges(text: string): IdRange[] {
  return text.split(',').map((part) => {
    const [inside = -1, outside = -1, length = 0, ...rest] = part
      .split(':')
      .map((n) => (/^\d{1,10}$/.test(n) ? +n : -1))
    const fits = [inside, outside].every((first) => first >= 0 && first + length - 1 <= MAX_ID)
    if (!fits || length < 1 || rest.length > 0)
      throw new Fault('invalid-argument', `Cannot map ids by ${JSON.stringify(text)}: it is not inside:outside:length`)
    return { inside, outside, length }
  })
}

/**
 * Makes a user namespace with these mappings and answers a descriptor of it: for mounts that map ids. Nothing runs in it: the
 * program that it takes to make one, unshare(1), is gone when this returns.
 * @throws {SystemError} `EPERM`, `EINVAL` for mappings that overlap
 */
export function openUserNamespace(
  uids: readonly IdRange[],
  gids: readonly IdRange[],
): Disposable & { readonly fd: number } {
  const child = spawn('unshare', ['--user', 'cat'], { stdio: ['pipe', 'ignore', 'ignore'] })
  child.on('error', () => undefined) // there is no pid then
  try {
    if (child.pid === undefined)
      throw new Fault('failed-precondition', 'Cannot map ids: install util-linux, which has unshare')
    const folder = `/proc/${child.pid}`
    waitUntilApart(`${folder}/ns/user`)
    writeFileSync(`${folder}/uid_map`, toMap(uids))
    writeFileSync(`${folder}/gid_map`, toMap(gids))
    const fd = openSync(`${folder}/ns/user`, 'r')
    return { fd, [Symbol.dispose]: () => closeSync(fd) }
  } finally {
    child.kill('SIGKILL')
    child.unref()
  }
}

/** The program has to get there first; this thread has nothing else to do meanwhile. */
function waitUntilApart(link: string): void {
  const ours = readlinkSync('/proc/self/ns/user')
  const pause = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
  for (let waited = 0; readlinkSync(link) === ours; waited += STEP_MS) {
    if (waited > WAIT_MS) throw new Fault('failed-precondition', 'Cannot map ids: this host makes no user namespaces')
    Atomics.wait(pause, 0, 0, STEP_MS)
  }
}

function toMap(ranges: readonly IdRange[]): string {
  return ranges.map(({ inside, outside, length }) => `${inside} ${outside} ${length}\n`).join('')
}
