/** What rules are checked with: the services of one node as they are on the wire. */
import { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { createClient, type GantryClient } from '@gantry/client/client'
import { isFault } from '@gantry/model/fault'
import { type CallOptions, type Client, clientOf, connect } from '@gantry/rpc/client'
import { sha256 } from '../harness/image.ts'
import type { Target } from '../harness/target.ts'

const RULE_MS = 30_000

type Services = GantryClient['services']

export interface Node extends Services, AsyncDisposable {
  readonly mounts: Client<typeof Mounts>
  readonly sandboxes: Client<typeof Store>
  readonly controller: Client<typeof Controller>
  readonly address: string
  readonly namespace: string
  /** another namespace */
  readonly other: string
  /** the reference of an image that is there, and unpacked */
  readonly image: string
  /** How a call of the namespace is made. */
  call(more?: Partial<CallOptions>): CallOptions
}

/** A rule of the facts, by the name of its section and what it says; it throws when it does not hold. */
export interface Rule {
  readonly rule: string
  /** Debian's containerd 1.6 does not know it yet, or does otherwise than 2.3 */
  readonly later?: true
  check(it: Node): Promise<void>
}

export function openNode(target: Target, other: string, image: string): Node {
  const { address, namespace } = target
  const client = createClient({ address, namespace })
  const channel = connect(address)
  return {
    ...client.services,
    mounts: clientOf(Mounts, channel),
    sandboxes: clientOf(Store, channel),
    controller: clientOf(Controller, channel),
    ...{ address, namespace, other, image },
    call: (more) => ({ namespace, signal: AbortSignal.timeout(RULE_MS), ...more }),
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]()
      await channel[Symbol.asyncDispose]()
    },
  }
}

/** `ok`, or the code of the fault that the call ends with. */
export async function code(call: Promise<unknown> | AsyncIterable<unknown>): Promise<string> {
  try {
    await (Symbol.asyncIterator in call ? all(call) : call)
    return 'ok'
  } catch (error) {
    if (isFault(error)) return error.code
    throw error
  }
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  return Array.fromAsync(items)
}

/** The codes of calls, by name. */
export async function codes(
  calls: Readonly<Record<string, () => Promise<unknown> | AsyncIterable<unknown>>>,
): Promise<Record<string, string>> {
  const entries: [string, string][] = []
  for (const [name, call] of Object.entries(calls)) entries.push([name, await code(call())])
  return Object.fromEntries(entries)
}

/** The same for all of them. */
export function same<T>(names: readonly string[], value: T): Record<string, T> {
  return Object.fromEntries(names.map((name) => [name, value]))
}

export const digestOf = (text: string): string => sha256(Buffer.from(text))
export const SPEC = { typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec', value: Buffer.from('{}') }
export const RUNTIME = { name: 'io.containerd.runc.v2' }
export const LONG = 'v'.repeat(4096)

export const ZERO = digestOf('')
/** What an image may name; nothing says that it is there. */
export const TARGET = { digest: digestOf('target'), size: 5n, mediaType: 'application/vnd.oci.image.manifest.v1+json' }

export function container(id: string) {
  return { id, runtime: RUNTIME, spec: SPEC }
}

export async function createContainer(it: Node, id: string, call = {}, more = {}): Promise<void> {
  await it.containers.create({ container: { ...container(id), ...more } }, it.call(call))
}

/** A call whose lease keeps what it makes from collection. */
export async function hold(it: Node) {
  await it.leases.create({ id: 'hold' }, it.call())
  return it.call({ lease: 'hold' })
}

/** Lets go of it, and waits until that is collected. */
export async function letGo(it: Node): Promise<void> {
  await it.leases.delete({ id: 'hold', sync: true }, it.call())
}

export async function* once<T>(...messages: T[]): AsyncGenerator<T> {
  yield* messages
}

/** The code of one call for each of these. */
export async function codesOf(
  values: readonly string[],
  call: (value: string) => Promise<unknown> | AsyncIterable<unknown>,
): Promise<Record<string, string>> {
  return codes(Object.fromEntries(values.map((value) => [value, () => call(value)])))
}
