import type { IncomingHttpHeaders } from 'node:http2'
import { Fault } from '@gantry/model/fault'
import { refuse } from '@gantry/rpc/call'
import { createContext, ISOLATED_HEADER, LENT, NAMESPACE_HEADER } from '@gantry/rpc/context'
import type { Route, Target } from '@gantry/rpc/server'
import { toStatus } from '@gantry/rpc/status'
import type { Telemetry } from '@gantry/rpc/telemetry'
import type { Audit } from '../audit/audit.ts'
import { type Caller, callerOf } from './caller.ts'
import { type Access, LASTING, METHODS } from './methods.ts'
import type { Policy, Rights } from './policy.ts'

/** What stands between callers and methods. */
export interface Guard {
  readonly policy: () => Policy
  readonly audit: Audit
  /** Hears of the calls that are refused; routes have their own. */
  readonly telemetry: Telemetry
  /**
   * The methods whose requests name namespaces themselves, for somebody who may not do everything, and those that go on
   * asking for as long as they last.
   *
   * @param now what the caller may do by then. @throws {Fault} `unauthenticated`
   */
  readonly within: (caller: Caller, now: () => Rights) => readonly Route[]
}

/**
 * Puts a guard before routes: a call goes on only when the policy lets its caller make it. What is decided on is what is
 * executed: the headers that go on, or a request that was decoded and is encoded again.
 *
 * @throws {Error} for a method that nobody has said of what it takes: see `methods.ts`
 */
export function guarded(routes: readonly Route[], guard: Guard): Route {
  return new Map(routes.flatMap((route) => [...route].map(([path, target]) => [path, guardOne(path, target, guard)])))
}

function guardOne(path: string, target: Target, { policy, audit, telemetry, within }: Guard): Target {
  const access = METHODS.get(path)
  if (!access) throw new Error(`${path} is served, but access/methods.ts does not say what it takes`)
  const watch = telemetry.of(access.method)
  const reads = access.kind === 'read'
  const isInBody = access.scope === 'body'
  const lasts = isInBody && LASTING.has(path)
  const narrow = memoized((caller: Caller) =>
    within(caller, () => rightsNow(policy(), caller))
      .find((route) => route.has(path))
      ?.get(path),
  )
  return {
    serve(stream, headers, live) {
      const caller = callerOf(stream.session)
      if (!reads || isInBody) audit.follow(stream, headers, { path, caller, ...access, reads })
      try {
        const rights = rightsNow(policy(), caller)
        if (rights.everything && !lasts) return target.serve(stream, headers, live)
        const checked = rights.everything ? headers : check({ path, access, rights, caller, headers })
        const chosen = isInBody ? narrow(caller) : target
        if (!chosen) throw denied(caller, path)
        return chosen.serve(stream, checked, live)
      } catch (error) {
        if (reads && !isInBody) audit.follow(stream, headers, { path, caller })
        const status = toStatus(error)
        watch.begin((name) => firstOf(headers, name)).end(status.code)
        refuse(stream, status)
      }
    },
  }
}

interface Question {
  readonly path: string
  readonly access: Access
  readonly rights: Rights
  readonly caller: Caller
  readonly headers: IncomingHttpHeaders
}

/** @returns the headers to go on with @throws {Fault} `permission-denied`, or what the owner says of a namespace that is none */
function check({ path, access, rights, caller, headers }: Question): IncomingHttpHeaders {
  if (!rights.some[access.kind]) throw denied(caller, path)
  if (access.scope !== 'header') return headers
  const context = createContext({ header: (name) => firstOf(headers, name), signal: NEVER })
  const { namespace } = context
  if (!rights.may(namespace, access.kind)) throw denied(caller, path, namespace)
  return { ...headers, [NAMESPACE_HEADER]: namespace, [ISOLATED_HEADER]: rights.lends(namespace) ? LENT : '1' }
}

/** Says who was refused what. */
export function denied(caller: Caller, path: string, namespace?: string): Fault {
  const where = namespace === undefined ? '' : ` in namespace ${JSON.stringify(namespace)}`
  return new Fault('permission-denied', `The policy does not let ${caller.name} call ${path.slice(1)}${where}`)
}

/** A certificate that runs out while its connection stands is worth nothing from then on. */
function rightsNow(policy: Policy, caller: Caller): Rights {
  if (caller.kind === 'remote' && caller.untilMs <= Date.now())
    throw new Fault('unauthenticated', `The client certificate expired on ${new Date(caller.untilMs).toISOString()}`)
  const known = rights.get(caller)
  if (known?.policy === policy) return known.rights
  const found = policy.rightsOf(caller)
  rights.set(caller, { policy, rights: found })
  return found
}

const rights = new WeakMap<Caller, { readonly policy: Policy; readonly rights: Rights }>()
const NEVER = new AbortController().signal

/** Keeps what was made for each caller. */
function memoized(make: (caller: Caller) => Target | undefined) {
  const made = new WeakMap<Caller, Target | undefined>()
  return (caller: Caller): Target | undefined => {
    if (!made.has(caller)) made.set(caller, make(caller))
    return made.get(caller)
  }
}

function firstOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name]
  return (Array.isArray(value) ? value[0] : value) || undefined
}
