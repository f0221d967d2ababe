import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf'
import { Fault, isFault } from '@gantry/model/fault'
import type * as GrpcLibrary from '@grpc/grpc-js'
import type { Client as GrpcClient, CallOptions as GrpcOptions, Metadata, ServiceError } from '@grpc/grpc-js'
import { parseTcp, type TcpAddress } from './address.ts'
import { LEASE_HEADER, NAMESPACE_HEADER } from './context.ts'
import type { Hop } from './hop-client.ts'
import { leap } from './leap.ts'
import { createLocal, type Local } from './local.ts'
import { bytes, encode, encodeAll, MAX_MESSAGE_BYTES } from './message.ts'
import { currentScope, headersOf } from './scope.ts'
import { pathOf } from './service.ts'
import { fromStatus } from './status.ts'
import { readAll, writeAll } from './streams.ts'
import type { TlsKeys } from './tls.ts'
import { createUpstream, type Upstream } from './upstream.ts'

/** How long a call waits for a peer that is not reachable yet, unless told. */
const WAIT_MS = 5000
const RETRY_MS = 100

/** How one call is made. */
export interface CallOptions {
  readonly signal: AbortSignal
  readonly namespace?: string | undefined
  readonly lease?: string | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** The whole call, in ms; no limit unless told. */
  readonly timeoutMs?: number
  /** How long the call may wait for the peer to be reachable, in ms; 5,000 unless told. */
  readonly waitMs?: number
}

type Method<M> = M extends {
  methodKind: infer Kind
  input: infer I extends DescMessage
  output: infer O extends DescMessage
}
  ? Kind extends 'unary'
    ? (request: MessageInitShape<I>, options: CallOptions) => Promise<MessageShape<O>>
    : Kind extends 'server_streaming'
      ? (request: MessageInitShape<I>, options: CallOptions) => AsyncIterable<MessageShape<O>>
      : Kind extends 'client_streaming'
        ? (requests: AsyncIterable<MessageInitShape<I>>, options: CallOptions) => Promise<MessageShape<O>>
        : (requests: AsyncIterable<MessageInitShape<I>>, options: CallOptions) => AsyncIterable<MessageShape<O>>
  : never

/** The calls of a service as plain functions. A call that answers with a stream starts at the first `next`. */
export type Client<S extends DescService> = { readonly [K in keyof S['method']]: Method<S['method'][K]> }

/** A connection to one process, shared by the clients of all its services. It reconnects by itself for ever. */
export interface Channel extends AsyncDisposable {
  /** Resolves when the peer is reachable. @throws {Fault} `unavailable` when it is not within `waitMs`, or the channel is disposed */
  ready(waitMs: number): Promise<Grpc>
  /** What was opened so far. */
  current(): Grpc | undefined
  /** The way of calls that are passed through as bytes. */
  readonly stream: Upstream
  /** The hop that calls with one message each way take, when there is one and it stands. */
  hop?(): Hop | undefined
  /** The way that calls with one message each way take in a program that must start fast. */
  readonly local?: Local
}

/** The library, which is read when it is first needed, and its client of one address. */
interface Grpc {
  readonly library: typeof GrpcLibrary
  readonly raw: GrpcClient
}

/**
 * Opens a channel to a unix socket by its absolute path, or to `tcp://host:port` with mutual TLS; nothing is dialled
 * before the first call.
 *
 * @throws {Fault} `invalid-argument` for a malformed address of TCP, and for one without keys: there is none in plain text
 */
export function connect(address: string, keys?: TlsKeys): Channel {
  const tcp = parseTcp(address)
  if (tcp && !keys)
    throw new Fault(
      'invalid-argument',
      `Cannot reach "${address}" without a client certificate: TCP is only served with TLS`,
    )
  let grpc: Grpc | undefined
  let closed = false
  async function open(): Promise<Grpc> {
    const library = await import('@grpc/grpc-js')
    const { credentials } = library
    grpc ??= {
      library,
      raw: new library.Client(
        tcp ? `dns:${address.slice('tcp://'.length)}` : `unix:${address}`,
        tcp && keys ? credentials.createSsl(keys.ca, keys.key, keys.cert) : credentials.createInsecure(),
        tcp ? { ...CHANNEL, ...FAR } : CHANNEL,
      ),
    }
    return grpc
  }
  const stream = createUpstream(address)
  return {
    stream,
    current: () => grpc,
    async ready(waitMs) {
      const found = grpc ?? (await open())
      const channel = found.raw.getChannel()
      const { READY } = found.library.connectivityState
      if (!closed && channel.getConnectivityState(true) === READY) return found
      if (tcp && keys) await reachable(tcp, keys, waitMs)
      // not `waitForReady`: it wakes a channel that is closed meanwhile, and its timer keeps the process
      for (const end = Date.now() + waitMs; !closed; ) {
        const state = channel.getConnectivityState(true)
        if (state === READY) return found
        if (Date.now() >= end) break
        await new Promise<void>((resolve) => channel.watchConnectivityState(state, end, () => resolve()))
      }
      throw new Fault('unavailable', `Cannot reach "${address}": is the service running?`)
    },
    async [Symbol.asyncDispose]() {
      closed = true
      grpc?.raw.close()
      await stream[Symbol.asyncDispose]()
    },
  }
}

/** The same to another owner on this host: calls with one message each way take its hop, at a tenth of the cost. */
export function connectOwner(address: string): Channel {
  const channel = connect(address)
  return { ...channel, hop: channel.stream.current }
}

/** The same for a program that must start fast, to a socket on this host. */
export function connectLocal(address: string): Channel {
  const channel = connect(address)
  const local = createLocal(address)
  return {
    ...channel,
    local,
    async [Symbol.asyncDispose]() {
      local[Symbol.dispose]()
      await channel[Symbol.asyncDispose]()
    },
  }
}

/** Resolves when the connection of a channel that was ready is lost, disposed, or closed after half an hour without calls. */
export function untilLost({ current }: Channel): Promise<void> {
  const grpc = current()
  if (!grpc) return Promise.resolve()
  const channel = grpc.raw.getChannel()
  const { READY } = grpc.library.connectivityState
  return new Promise((resolve) => {
    if (channel.getConnectivityState(false) !== READY) resolve()
    else channel.watchConnectivityState(READY, Number.POSITIVE_INFINITY, () => resolve())
  })
}

const CHANNEL = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 1000,
  'grpc.use_local_subchannel_pool': 1,
}

/** A host that goes does not say so. Servers of Go close a connection with more than a ping in five minutes. */
const FAR = { 'grpc.keepalive_time_ms': 330_000, 'grpc.keepalive_timeout_ms': 20_000 }

/** Waits for a server that starts, not for one that does not trust us: that does not pass. */
async function reachable(tcp: TcpAddress, keys: TlsKeys, waitMs: number): Promise<void> {
  const { checkPeer } = await import('./tls-peer.ts')
  for (const end = performance.now() + waitMs; ; await sleep(RETRY_MS)) {
    try {
      return await checkPeer(tcp, keys)
    } catch (error) {
      if (!isFault(error, 'unavailable') || performance.now() + RETRY_MS >= end) throw error
    }
  }
}

/** The typed client of one service over a channel. Errors of the peer arrive as the `Fault` it threw. */
export function clientOf<S extends DescService>(service: S, channel: Channel): Client<S> {
  return Object.fromEntries(service.methods.map((method) => [method.localName, caller(method, channel)])) as Client<S>
}

function caller(method: DescMethod, channel: Channel): unknown {
  switch (method.methodKind) {
    case 'unary':
      return (request: unknown, options: CallOptions) => callUnary(method, channel, request, options)
    case 'client_streaming':
      return (requests: AsyncIterable<unknown>, options: CallOptions) =>
        callClientStream(method, channel, requests, options)
    case 'server_streaming':
      return (request: unknown, options: CallOptions) => callServerStream(method, channel, request, options)
    case 'bidi_streaming':
      return (requests: AsyncIterable<unknown>, options: CallOptions) => callBidi(method, channel, requests, options)
  }
}

async function callUnary(
  method: DescMethod,
  channel: Channel,
  request: unknown,
  options: CallOptions,
): Promise<unknown> {
  const message = encode(method.input, request)
  const { signal, timeoutMs } = options
  const isPlain = !signal.aborted && timeoutMs === undefined && message.length <= MAX_MESSAGE_BYTES
  const hop = isPlain ? channel.hop?.() : undefined
  if (hop) {
    const headers = [[':path', pathOf(method)] as const, ...headersOfCall(options)]
    return fromBinary(method.output, await leap(hop, headers, message, signal))
  }
  if (isPlain && channel.local) {
    const headers = { ':path': pathOf(method), ...Object.fromEntries(headersOfCall(options)) }
    return fromBinary(method.output, await channel.local.call(headers, message, signal, options.waitMs ?? WAIT_MS))
  }
  const { raw, metadata } = await opened(channel, options)
  return new Promise((resolve, reject) => {
    const call = raw.makeUnaryRequest(
      pathOf(method),
      bytes,
      bytes,
      message,
      metadata,
      grpcOptions(options),
      (error, reply) => {
        options.signal.removeEventListener('abort', cancel)
        if (error) reject(toFault(error))
        else resolve(fromBinary(method.output, reply ?? Buffer.alloc(0)))
      },
    )
    const cancel = (): void => call.cancel()
    options.signal.addEventListener('abort', cancel, { once: true })
  })
}

async function callClientStream(
  method: DescMethod,
  channel: Channel,
  requests: AsyncIterable<unknown>,
  options: CallOptions,
): Promise<unknown> {
  const { raw, metadata } = await opened(channel, options)
  const reply = Promise.withResolvers<Buffer>()
  const call = raw.makeClientStreamRequest(
    pathOf(method),
    bytes,
    bytes,
    metadata,
    grpcOptions(options),
    (error, message) => (error ? reply.reject(toFault(error)) : reply.resolve(message ?? Buffer.alloc(0))),
  )
  using _ = cancelWith(options.signal, call)
  const sent = send(call, method, requests)
  const message = await Promise.race([reply.promise, sent.then(() => reply.promise)])
  return fromBinary(method.output, message)
}

async function* callServerStream(
  method: DescMethod,
  channel: Channel,
  request: unknown,
  options: CallOptions,
): AsyncIterable<unknown> {
  const { raw, metadata } = await opened(channel, options)
  const call = raw.makeServerStreamRequest(
    pathOf(method),
    bytes,
    bytes,
    encode(method.input, request),
    metadata,
    grpcOptions(options),
  )
  using _ = cancelWith(options.signal, call)
  yield* receive(call, method)
}

async function* callBidi(
  method: DescMethod,
  channel: Channel,
  requests: AsyncIterable<unknown>,
  options: CallOptions,
): AsyncIterable<unknown> {
  const { raw, metadata } = await opened(channel, options)
  const call = raw.makeBidiStreamRequest(pathOf(method), bytes, bytes, metadata, grpcOptions(options))
  using _ = cancelWith(options.signal, call)
  const failed = Promise.withResolvers<never>()
  send(call, method, requests).catch((error) => {
    failed.reject(error)
    call.cancel()
  })
  failed.promise.catch(() => undefined)
  try {
    yield* receive(call, method)
  } catch (error) {
    throw await Promise.race([failed.promise, Promise.resolve(error)]).catch((cause: unknown) => cause)
  }
}

type Sink = Parameters<typeof writeAll>[0] & { cancel(): void }
type Source = Parameters<typeof readAll>[0] & { cancel(): void }

/** Sends every request, then the end of them. A call that went away meanwhile is no failure of the sending. */
async function send(call: Sink, method: DescMethod, requests: AsyncIterable<unknown>): Promise<void> {
  const gone = new AbortController()
  call.once('close', () => gone.abort())
  call.once('error', () => gone.abort())
  try {
    await writeAll(call, encodeAll(method.input, requests), gone.signal)
  } catch (error) {
    if (!gone.signal.aborted) throw error
  }
  call.end()
}

async function* receive(call: Source, method: DescMethod): AsyncIterable<unknown> {
  try {
    for await (const message of readAll(call)) yield fromBinary(method.output, message)
  } catch (error) {
    throw toFault(error)
  }
}

/** Waits for the peer; a call whose signal is aborted already, or while it waits, is never sent. */
async function opened(channel: Channel, options: CallOptions): Promise<{ raw: GrpcClient; metadata: Metadata }> {
  const { signal, waitMs = WAIT_MS } = options
  if (!signal.aborted) {
    const waiting = new AbortController()
    const aborted = once(signal, 'abort', { signal: waiting.signal }).then(
      () => undefined,
      () => undefined,
    )
    const grpc = await Promise.race([channel.ready(waitMs), aborted]).finally(() => waiting.abort())
    if (grpc && !signal.aborted) return { raw: grpc.raw, metadata: metadataOf(grpc.library, options) }
  }
  throw new Fault('cancelled', 'The call was cancelled before it was sent', { cause: signal.reason })
}

/** Cancels the call when the signal says so, or when the consumer of its stream stops early. */
function cancelWith(signal: AbortSignal, call: { cancel(): void }): Disposable {
  const cancel = (): void => call.cancel()
  signal.addEventListener('abort', cancel, { once: true })
  return {
    [Symbol.dispose]() {
      signal.removeEventListener('abort', cancel)
      cancel()
    },
  }
}

function metadataOf({ Metadata }: typeof GrpcLibrary, options: CallOptions): Metadata {
  const metadata = new Metadata()
  for (const [name, value] of headersOfCall(options)) metadata.set(name, value)
  return metadata
}

/**
 * The headers of a call by their names in lower case; a later one takes the place of an earlier one.
 * @throws {Fault} `invalid-argument` for a value that cannot travel
 */
function headersOfCall({ namespace, lease, headers = {} }: CallOptions): [name: string, value: string][] {
  const scope = currentScope()
  const all: [string, string][] = Object.entries({ ...(scope && headersOf(scope)), ...headers })
  if (namespace !== undefined) all.push([NAMESPACE_HEADER, namespace])
  if (lease !== undefined) all.push([LEASE_HEADER, lease])
  return all.map(([name, value]) => {
    if (BAD_VALUE.test(value))
      throw new Fault('invalid-argument', `Cannot send the header ${name}: it holds what no header can`)
    return [name.toLowerCase(), value]
  })
}

const BAD_VALUE = /[^\x20-\x7e\x80-\xff]/ // the hop knows no others, either

function grpcOptions({ timeoutMs }: CallOptions): GrpcOptions {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs }
}

function toFault(error: unknown): unknown {
  const { code, details } = error as Partial<ServiceError>
  return typeof code === 'number' ? fromStatus(code, details ?? '', error) : error
}
