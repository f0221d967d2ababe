/**
 * What is known of the call that is served while its work runs, wherever in the process that is: for the log, for the calls
 * it makes in turn, and for spans of its steps. It follows the work through promises, timers and streams by itself.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { randomBytes } from 'node:crypto'

/** Header that names a call to all processes it comes through. */
export const REQUEST_HEADER = 'gantry-request-id'
const TRACE_HEADER = 'traceparent'
const STATE_HEADER = 'tracestate'
const MAX_STATE = 512 // characters

/** A span as others refer to it. @see https://www.w3.org/TR/trace-context/ */
export interface TraceContext {
  /** 32 and 16 lower-case hexadecimal digits. */
  readonly traceId: string
  readonly spanId: string
  /** Is it recorded? */
  readonly sampled: boolean
  /** What vendors have to say, passed on as it is. */
  readonly state?: string
}

/** A part of a trace that is under way. */
export interface Span {
  readonly context: TraceContext
  /** @param failure why it ended badly, if it did */
  end(failure?: string): void
}

export type Attributes = Readonly<Record<string, string | number | boolean>>

/** Records spans. A process that nobody traces has none. */
export interface Tracer {
  /** @param options.serves is it a call that is served, and not a step of one? */
  start(name: string, options: { parent: TraceContext | undefined; serves: boolean; attributes: Attributes }): Span
}

export interface Scope {
  readonly requestId: string
  readonly trace: TraceContext | undefined
  readonly tracer: Tracer | undefined
}

const storage = new AsyncLocalStorage<Scope>()

/** The call whose work runs now, if it is the work of one. */
export function currentScope(): Scope | undefined {
  return storage.getStore()
}

export function inScope<T>(scope: Scope, work: () => T): T {
  return storage.run(scope, work)
}

type Header = (name: string) => string | undefined

/** What the headers of a call say. A call that has no id gets one, and so does one whose id could spoil a log. */
export function scopeOf(header: Header): Scope {
  const given = header(REQUEST_HEADER)
  const requestId = given !== undefined && /^[\w.-]{1,64}$/.test(given) ? given : newRequestId()
  return { requestId, trace: traceOf(header), tracer: undefined }
}

/** The headers by which the next process goes on with this scope. */
export function headersOf({ requestId, trace }: Scope): Record<string, string> {
  const headers: Record<string, string> = { [REQUEST_HEADER]: requestId }
  if (trace === undefined) return headers
  headers[TRACE_HEADER] = `00-${trace.traceId}-${trace.spanId}-${trace.sampled ? '01' : '00'}`
  if (trace.state !== undefined) headers[STATE_HEADER] = trace.state
  return headers
}

/** Runs a step of a call as a span of its own, when the call is traced; else it just runs it. */
export async function traced<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
  const scope = currentScope()
  if (scope?.tracer === undefined || scope.trace === undefined) return await work()
  const span = scope.tracer.start(name, { parent: scope.trace, serves: false, attributes })
  try {
    const result = await inScope({ ...scope, trace: span.context }, work)
    span.end()
    return result
  } catch (error) {
    span.end(error instanceof Error ? error.message : String(error))
    throw error
  }
}

function traceOf(header: Header): TraceContext | undefined {
  const [, version, traceId = '', spanId = '', flags = ''] =
    /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(?:$|-)/.exec(header(TRACE_HEADER) ?? '') ?? []
  if (version === undefined || version === 'ff' || /^0*$/.test(traceId) || /^0*$/.test(spanId)) return undefined
  const state = header(STATE_HEADER)
  const sampled = (Number.parseInt(flags, 16) & 1) === 1
  return { traceId, spanId, sampled, ...(state !== undefined && state.length <= MAX_STATE && { state }) }
}

const PROCESS = randomBytes(6).toString('hex') // so that no two processes give the same id
let count = 0

function newRequestId(): string {
  return `${PROCESS}-${(++count).toString(36)}`
}
