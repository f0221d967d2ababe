/** Which answers to a random call are right. */
import type { FuzzCall } from './calls.ts'
import type { RawReply } from './wire.ts'

const UNKNOWN = 2
const INTERNAL = 13
const UNAVAILABLE = 14

/** Where the facts let an error go out without a code of its own (1.5, 6, 8, 9, 15.1), by what is said then. */
const UNTYPED: readonly (readonly [method: RegExp, details: RegExp])[] = [
  [/Diff\/Apply$/, /no processor for media type/],
  [/Tasks\/(Start|Pause|Resume|Delete|DeleteProcess|Exec|ResizePty|Update|Checkpoint)$/, /^(cannot|failed to) /],
  [/Tasks\/(Create|Start|Exec|Update)$/, /runc|runtime|STDIO scheme|^unsupported checkpoint type/],
  [/Controller\/Create$/, /runc|runtime/],
  [/Controller\/Start$/, /^(failed to start|cannot )/],
]

/** An upload that somebody else is at; a shim that the caller says is running; a registry that is not there. */
const BUSY = /Content\/Write |Tasks\/Create failed to create shim task: Cannot reach|Transfer\/Transfer Cannot /

/** What is wrong with the answer; undefined when nothing is. */
export function complaintOf(call: FuzzCall, reply: RawReply): string | undefined {
  const { code, details } = reply
  if (reply.hungUp) return call.bounded ? `no answer within ${call.patienceMs} ms` : undefined
  if (code === undefined) return `no status (HTTP ${reply.httpStatus})`
  if (code < 0 || code > 16) return `status ${code}`
  if (details === '' && code !== 0) return `status ${code} without a word`
  if (code === INTERNAL && (!call.broken || /^Internal error/.test(details))) return `INTERNAL: ${details}`
  if (code === UNAVAILABLE && !BUSY.test(`${call.path} ${details}`)) return `UNAVAILABLE: ${details}`
  if (code === UNKNOWN && !UNTYPED.some(([method, words]) => method.test(call.path) && words.test(details)))
    return `UNKNOWN: ${details}`
  return undefined
}
