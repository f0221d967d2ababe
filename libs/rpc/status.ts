import { Fault, type FaultCode } from '@gantry/model/fault'
import { status } from '@grpc/grpc-js'
import { currentScope } from './scope.ts'

/** The one map between our faults and gRPC's codes; a new fault code without a status does not compile. */
const STATUS = {
  cancelled: status.CANCELLED,
  unknown: status.UNKNOWN,
  'invalid-argument': status.INVALID_ARGUMENT,
  'deadline-exceeded': status.DEADLINE_EXCEEDED,
  'not-found': status.NOT_FOUND,
  'already-exists': status.ALREADY_EXISTS,
  'permission-denied': status.PERMISSION_DENIED,
  'resource-exhausted': status.RESOURCE_EXHAUSTED,
  'failed-precondition': status.FAILED_PRECONDITION,
  aborted: status.ABORTED,
  'out-of-range': status.OUT_OF_RANGE,
  unimplemented: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
  unavailable: status.UNAVAILABLE,
  'data-loss': status.DATA_LOSS,
  unauthenticated: status.UNAUTHENTICATED,
} as const satisfies Record<FaultCode, status>

const CODES = new Map<number, FaultCode>(Object.entries(STATUS).map(([code, number]) => [number, code as FaultCode]))

/** What ends a call that failed. */
export interface CallStatus {
  readonly code: status
  readonly details: string
}

/**
 * Turns whatever a handler threw into the status its caller sees. Only a `Fault` is shown as it is: anything else is a
 * bug of ours, whose text may hold what the caller must not read. It is told the id of its call: our log has the rest.
 */
export function toStatus(error: unknown, signal?: AbortSignal): CallStatus {
  if (error instanceof Fault) return { code: STATUS[error.code], details: error.message }
  if (signal?.aborted) return { code: status.CANCELLED, details: 'The call was cancelled' }
  const scope = currentScope()
  return { code: status.INTERNAL, details: scope ? `Internal error (request ${scope.requestId})` : 'Internal error' }
}

/** What gRPC calls a code, such as `NOT_FOUND`. */
export function nameOfCode(code: number): string {
  return status[code] ?? String(code)
}

/** The fault a status stands for: a `Fault` thrown in one process arrives in another as the same `Fault`. */
export function fromStatus(code: number, details: string, cause?: unknown): Fault {
  return new Fault(CODES.get(code) ?? 'unknown', details, { cause })
}
