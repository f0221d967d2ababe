import type { Http2Session } from 'node:http2'
import { Fault } from '@gantry/model/fault'
import { type Namespace, parseNamespace } from '@gantry/model/namespace'

/** Header that names the tenant of a call (behaviour facts, 1.2). */
export const NAMESPACE_HEADER = 'containerd-namespace'
/** Header that names the lease what a call creates belongs to (behaviour facts, 1.3). */
export const LEASE_HEADER = 'containerd-lease'

/**
 * Says that a policy keeps the caller to namespaces: it may have no blob of another one just for knowing its digest, and
 * nothing of the node's own. The gateway sets it, to `LENT` where the policy lends the node's credentials for registries.
 */
export const ISOLATED_HEADER = 'gantry-isolated'
export const LENT = 'credentials'

/** What a handler knows of its call beside the request itself. */
export interface CallContext {
  /**
   * The namespace of the call. Reading it is what makes it required.
   * @throws {Fault} `failed-precondition` when the header is absent or empty, `invalid-argument` when it is malformed
   */
  readonly namespace: Namespace
  /** The lease id, or undefined when the call carries none. */
  readonly lease: string | undefined
  /** First value of another header, by its lower-case name. */
  readonly header: (name: string) => string | undefined
  /** The connection it came over, where that tells who calls. */
  readonly session?: Http2Session | undefined
  /** Aborted when the caller hangs up, the deadline passes or the process stops. */
  readonly signal: AbortSignal
}

/** Builds the context of one call from what is known of it. */
export function createContext(call: Pick<CallContext, 'header' | 'session' | 'signal'>): CallContext {
  return new Context(call)
}

class Context implements CallContext {
  readonly header: CallContext['header']
  readonly #call: Pick<CallContext, 'session' | 'signal'>

  constructor(call: Pick<CallContext, 'header' | 'session' | 'signal'>) {
    this.header = call.header
    this.#call = call
  }

  get namespace(): Namespace {
    const [name] = this.header(NAMESPACE_HEADER)?.split(', ') ?? [] // the first one counts
    if (name === undefined)
      throw new Fault('failed-precondition', 'namespace is required: send the containerd-namespace header')
    return parseNamespace(name)
  }

  get lease(): string | undefined {
    return this.header(LEASE_HEADER)
  }

  get session(): Http2Session | undefined {
    return this.#call.session
  }

  get signal(): AbortSignal {
    return this.#call.signal
  }
}
