import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'
import { Fault } from '@gantry/model/fault'
import { reloading } from '../reload.ts'
import { GROUPS_FILE, gidOf, OPEN, type Policy, parsePolicy } from './policy.ts'

const OTHERS_MAY_WRITE = 0o022

/** The policy in force: a changed file counts for the calls that come after. */
export interface OpenPolicy extends Disposable {
  current(): Policy
}

/**
 * Reads the policy file and watches it. Without one, whoever opens the unix socket may do anything, as with containerd;
 * but a certificate is no socket that root has handed out, so TCP wants a policy.
 *
 * @throws {Fault} `invalid-argument` with one clear line for the operator
 */
export function openPolicy(
  { policy: file, tcp }: { readonly policy?: string | undefined; readonly tcp?: object | undefined },
  log: Parameters<typeof reloading>[2],
): OpenPolicy {
  if (file === undefined) {
    if (tcp)
      throw new Fault(
        'invalid-argument',
        'Cannot serve gateway.tcp without gateway.policy: say which certificate may do what',
      )
    return { current: () => OPEN, [Symbol.dispose]: () => undefined }
  }
  let current = readTrusted(file)
  const watching = reloading([file], () => (current = readTrusted(file)), log)
  return { current: () => current, [Symbol.dispose]: () => watching[Symbol.dispose]() }
}

/** What is checked is what is read, and a pipe is not waited for: the name may stand for another file in between. */
function readTrusted(file: string): Policy {
  const fd = opened(file)
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) throw new Fault('invalid-argument', `Cannot read the policy ${file}: it is no file`)
    if (stat.uid !== process.getuid?.() || (stat.mode & OTHERS_MAY_WRITE) !== 0)
      throw new Fault(
        'invalid-argument',
        `Cannot trust the policy ${file}: others may write it; chown it to root and chmod go-w`,
      )
    return parsePolicy(file, readFileSync(fd, 'utf8'), readFileSync(GROUPS_FILE, 'utf8'))
  } finally {
    closeSync(fd)
  }
}

function opened(file: string): number {
  try {
    return openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new Fault('invalid-argument', `Cannot read the policy ${file}: ${reason}`, { cause: error })
  }
}

/** The group that may open the socket. @throws {Fault} `invalid-argument` for one that is not there */
export function socketGroup(group: string | number | undefined): { readonly gid?: number } {
  if (group === undefined) return {}
  return { gid: typeof group === 'number' ? group : gidOf(group, readFileSync(GROUPS_FILE, 'utf8'), 'gateway.group') }
}
