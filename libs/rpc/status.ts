import { Fault, type FaultCode } from '@gantry/model/fault'
import { currentScope } from './scope.ts'

/** The one map between our faults and gRPC's codes; a new fault code without a status does not compile. */
const STATUS = {
  cancelled: 1,
  unknown: 2,
  'invalid-argument': 3,
  'deadline-exceeded': 4,
  'not-found': 5,
  'already-exists': 6,
  'permission-denied': 7,
  'resource-exhausted': 8,
  'failed-precondition': 9,
  aborted: 10,
  'out-of-range': 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  'data-loss': 15,
  unauthenticated: 16,
} as const satisfies Record<FaultCode, number>

const CODES = new Map<number, FaultCode>(Object.entries(STATUS).map(([code, number]) => [number, code as FaultCode]))

/** What ends a call that failed. */
export interface CallStatus {
  readonly code: number
  readonly details: string
}

/**
 * Turns whatever a handler threw into the status its caller sees. Only a `Fault` is shown as it is: anything else is something
 * that the host has run out of, or a bug of ours. Its text may hold what the caller must not read, so the caller is told the id of
 * the call: our log has the rest.
 */
export function toStatus(error: unknown, signal?: AbortSignal): CallStatus {
  if (error instanceof Fault) return { code: STATUS[error.code], details: error.message }
  if (signal?.aborted) return { code: STATUS.cancelled, details: 'The call was cancelled' }
  const scope = currentScope()
  const where = scope ? ` (request ${scope.requestId})` : ''
  const lack = LACKS.get(codeOf(error))
  if (lack !== undefined) return { code: STATUS['resource-exhausted'], details: `Cannot do that now: ${lack}${where}` }
  return { code: STATUS.internal, details: `Internal error${where}` }
}

/** What a host may run out of, by what the system calls it. */
const LACKS: ReadonlyMap<unknown, string> = new Map([
  ['ENOSPC', 'a disk of the node is full'],
  ['EDQUOT', 'a disk quota of the node is used up'],
  ['EMFILE', 'a process of the node has too many files open'],
  ['ENFILE', 'the node has too many files open'],
])

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

/** What gRPC calls a code, such as `NOT_FOUND`. */
export function nameOfCode(code: number): string {
  return code === 0 ? 'OK' : (CODES.get(code)?.toUpperCase().replaceAll('-', '_') ?? String(code))
}

/** The fault a status stands for: a `Fault` thrown in one process arrives in another as the same `Fault`. */
export function fromStatus(code: number, details: string, cause?: unknown): Fault {
  return new Fault(CODES.get(code) ?? 'unknown', details, { cause })
}
