/** What went wrong, as far as a caller can act on it. One code for each gRPC status; the map is in `libs/rpc`. */
export type FaultCode =
  | 'invalid-argument'
  | 'not-found'
  | 'already-exists'
  | 'permission-denied'
  | 'resource-exhausted'
  | 'failed-precondition'
  | 'aborted'
  | 'out-of-range'
  | 'unimplemented'
  | 'internal'
  | 'unavailable'
  | 'data-loss'
  | 'unauthenticated'
  | 'deadline-exceeded'
  | 'cancelled'
  /** Only where containerd answers UNKNOWN and clients have come to expect it. */
  | 'unknown'

/** A failure the caller can act on. Anything else that is thrown is a bug and leaves the process as INTERNAL. */
export class Fault extends Error {
  override readonly name = 'Fault'
  readonly code: FaultCode

  constructor(code: FaultCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Is `error` a fault and, when a code is given, that one? */
export function isFault(error: unknown, code?: FaultCode): error is Fault {
  return error instanceof Fault && (code === undefined || error.code === code)
}

/** Waits for `promise`; a fault with `code` becomes `undefined`, every other failure is passed on. */
export async function ignoring<T>(code: FaultCode, promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise
  } catch (error) {
    if (isFault(error, code)) return undefined
    throw error
  }
}
