/** Random calls: any method, with a request of its type or with bytes that are none, under any headers. */
import type { DescMethod } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { messageBytes } from './message.ts'
import { type Ground, hostileNames, mostly } from './values.ts'
import { frame, type RawCall } from './wire.ts'

const PATIENCE_MS = 30_000 // for what must be answered, on a busy machine
const GLIMPSE_MS = 150 // for what may wait for ever
const TAME = 60 // right values for one that is odd, in half of the calls
const MAX_HEADER = 1000 // characters

/** Calls that wait for something to happen, or for as long as their caller likes. */
const WAITING = new Set(['Subscribe', 'Wait', 'Stop', 'Stream', 'Write', 'Transfer'])

export interface FuzzCall extends RawCall {
  /** Its frames are not gRPC's, or not as many as the method takes. */
  readonly broken: boolean
  /** It must be answered. */
  readonly bounded: boolean
}

export function fuzzCall(methods: readonly DescMethod[], ground: Ground): fc.Arbitrary<FuzzCall> {
  const headers = headersOf(ground)
  const tame = { ...ground, tame: TAME }
  return fc.oneof(
    ...methods.map((method) =>
      fc
        .tuple(mostly(requestOf(method, tame), requestOf(method, ground), 1), headers)
        .map(([{ body, broken, halfOpen }, headers]): FuzzCall => {
          const bounded = !WAITING.has(method.name) && !halfOpen
          const path = `/${method.parent.typeName}/${method.name}`
          return { path, headers, body, broken, halfOpen, bounded, patienceMs: bounded ? PATIENCE_MS : GLIMPSE_MS }
        }),
    ),
  )
}

interface Request {
  readonly body: Uint8Array
  readonly broken: boolean
  readonly halfOpen: boolean
}

function requestOf(method: DescMethod, ground: Ground): fc.Arbitrary<Request> {
  const message = messageBytes(method.input, ground)
  const streams = method.methodKind === 'bidi_streaming' || method.methodKind === 'client_streaming'
  const messages = streams ? fc.array(message, { maxLength: 5 }) : message.map((one) => [one])
  const whole = fc.tuple(messages, fc.integer({ min: 0, max: 9 })).map(([all, dice]) => ({
    body: Buffer.concat(all.map((each) => frame(each))),
    broken: false,
    halfOpen: streams && dice === 0,
  }))
  const damaged = fc.tuple(message, damage).map(([one, harm]) => ({ broken: true, halfOpen: false, ...harm(one) }))
  return mostly<Request, Request>(whole, damaged, 12)
}

type Harm = (message: Uint8Array) => Partial<Request> & { readonly body: Uint8Array }

const damage: fc.Arbitrary<Harm> = fc.oneof(
  fc.uint8Array({ maxLength: 64 }).map(
    (body): Harm =>
      () => ({ body }),
  ),
  fc.uint8Array({ maxLength: 64 }).map(
    (junk): Harm =>
      () => ({ body: frame(junk) }),
  ),
  fc.constantFrom<Harm[]>(
    () => ({ body: new Uint8Array() }),
    () => ({ body: new Uint8Array(), halfOpen: true }),
    (message) => ({ body: frame(message, 1) }),
    (message) => ({ body: frame(message, 255) }),
    (message) => ({ body: frame(message, 0, message.length + 1) }),
    (message) => ({ body: frame(message, 0, message.length + 1), halfOpen: true }),
    (message) => ({ body: frame(message, 0, 17 * 1024 * 1024) }),
    (message) => ({ body: frame(message, 0, 2 ** 32 - 1) }),
    (message) => ({ body: frame(message).subarray(0, 3) }),
    (message) => ({ body: Buffer.concat([frame(message), frame(message)]) }),
    (message) => ({ body: Buffer.concat([frame(message), Buffer.from([0, 0])]) }),
    (message) => ({ body: frame(new Uint8Array(0), 0, 0), halfOpen: message.length === 0 }),
  ),
)

/** With and without a namespace, a lease, a deadline; in the words of a client or in others. */
function headersOf(ground: Ground): fc.Arbitrary<Record<string, string>> {
  const { namespaces } = ground
  const hostile = hostileNames(ground).map((name) =>
    Buffer.from(name)
      .toString('latin1')
      .replace(/[^\x20-\x7e]/g, '?')
      .trim()
      .slice(0, MAX_HEADER),
  )
  const maybe = <T>(weight: number, value: fc.Arbitrary<T>) => mostly(fc.constant(undefined), value, weight)
  return fc
    .record({
      'containerd-namespace': mostly(
        fc.constantFrom<(string | undefined)[]>(...namespaces, namespaces[0]),
        mostly(fc.constantFrom<(string | undefined)[]>(undefined, '', 'bad ns', `${namespaces[0]}, other`), hostile, 1),
        12,
      ),
      'containerd-lease': maybe(12, mostly(fc.constantFrom('c1', 'c2', 'k1', 'nosuch'), hostile)),
      'grpc-timeout': maybe(20, fc.constantFrom('1m', '50m', '5S', '0n', '-1S', 'x', '99999999H', '1'.repeat(50))),
      'grpc-encoding': maybe(60, fc.constantFrom('gzip', 'identity', 'nosuch')),
      'gantry-events-from': maybe(
        30,
        fc.constantFrom('0', '1', '-1', 'x', '99999999999999999999', '+100000-01-01T00:00:00Z', '2020-01-01T00:00:00Z'),
      ),
      'x-unknown': maybe(60, fc.constantFrom('', 'y'.repeat(20_000))),
    })
    .map((headers) =>
      Object.fromEntries(Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined)),
    )
}
