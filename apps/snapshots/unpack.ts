import { randomBytes } from 'node:crypto'
import { chainId } from '@gantry/model/chain-id'
import type { Digest } from '@gantry/model/digest'
import { Fault, ignoring } from '@gantry/model/fault'
import type { Apply } from './diff/apply.ts'
import type { Leased, LeaseHolder } from './leases.ts'
import type { Scope } from './rows.ts'
import { type Key, parseKey, TARGET_LABEL } from './snapshot.ts'
import { isThere, type Snapshots } from './snapshots.ts'

const CLEANUP_MS = 10_000

/** A layer as the image has it: its blob, and the digest that its plain bytes are promised to have. */
export interface Layer {
  readonly blob: { readonly digest: Digest; readonly mediaType: string }
  readonly diffId: Digest
}

export interface Progress {
  /** Place in the chain, from 0. */
  readonly layer: number
  readonly phase: 'extracting' | 'extracted' | 'exists'
  readonly chainId: Digest
}

export interface UnpackParts {
  readonly snapshots: Snapshots
  readonly apply: Apply
  readonly leases: LeaseHolder
}

/** Turns the layers of an image, base first, into a chain of committed snapshots named by their chain IDs. */
export type Unpack = (scope: Scope, layers: readonly Layer[], call: Leased) => AsyncGenerator<Progress>

/** One layer to unpack, and where it belongs. */
interface Step {
  readonly scope: Scope
  readonly layer: Layer
  readonly parent: Digest | ''
  readonly name: Digest
}

/**
 * Safe to repeat and to race: a chain ID names its content, so a finished layer is skipped and one that another call works
 * on is waited for. Each name is committed only when the bytes hash to the diff ID and are on disk.
 *
 * @throws {Fault} `failed-precondition` when a layer's bytes do not hash to the diff ID the image config promises
 * @see https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
 */
export function createUnpack(parts: UnpackParts): Unpack {
  const flights = new Map<string, Promise<unknown>>()
  return async function* (scope, layers, call) {
    let parent: Digest | '' = ''
    for (const [index, layer] of layers.entries()) {
      const name = chainId(parent, layer.diffId)
      const flight = `${scope.namespace} ${scope.snapshotter} ${name}`
      let exists = await claim(parts, scope, name, call)
      for (let other = flights.get(flight); other && !exists; other = flights.get(flight)) {
        await settled(other, call.signal)
        exists = await claim(parts, scope, name, call)
      }
      if (exists) {
        yield { layer: index, phase: 'exists', chainId: name }
      } else {
        const step = { scope, layer, parent, name }
        const work = extract(parts, step, call).finally(() => flights.delete(flight))
        flights.set(flight, work)
        work.catch(() => {}) // heard below, unless the caller stops listening at the next line
        yield { layer: index, phase: 'extracting', chainId: name }
        await work
        yield { layer: index, phase: 'extracted', chainId: name }
      }
      parent = name
    }
  }
}

/** Is the layer there? Then the call's lease holds it from now on. */
async function claim({ snapshots, leases }: UnpackParts, scope: Scope, name: Digest, call: Leased): Promise<boolean> {
  const key = parseKey(name, 'name')
  if (!snapshots.has(scope, key)) return false
  await leases.hold(scope, key, call)
  return snapshots.has(scope, key) // it may have been collected just before
}

async function extract({ snapshots, apply }: UnpackParts, step: Step, call: Leased): Promise<void> {
  const { scope, layer, parent, name } = step
  const key = parseKey(
    `extract-${BigInt(Date.now()) * 1_000_000n}-${randomBytes(3).toString('base64url')} ${name}`,
    'key',
  )
  const labels = {
    [TARGET_LABEL]: name,
    'containerd.io/snapshot/diff-id': layer.diffId,
    'containerd.io/snapshot/parent-chain-id': parent,
  }
  const below = parent === '' ? undefined : parseKey(parent, 'parent')
  const mounts = await ignoring(
    'already-exists',
    snapshots.open(scope, { kind: 'active', key, parent: below, labels }, call),
  )
  if (!mounts) return // by a client that unpacks the same image
  try {
    const what = { namespace: scope.namespace, blob: layer.blob, mounts, sync: true, measure: true }
    const applied = await apply(what, call.signal)
    if (applied.digest !== layer.diffId)
      throw new Fault(
        'failed-precondition',
        `Cannot unpack ${layer.blob.digest}: its diff ID is ${applied.digest} and the image promises ${layer.diffId}`,
      )
    const committing = { key, name: parseKey(name, 'name'), parent: below, labels }
    await snapshots.commit(scope, committing, call, applied.usage)
  } catch (error) {
    await abandon(snapshots, { scope, key, lease: call.lease })
    if (!isThere(error)) throw error
  }
}

/** Cleanup has its own time: it runs although the call was cancelled. */
async function abandon(
  snapshots: Snapshots,
  from: { scope: Scope; key: Key; lease: string | undefined },
): Promise<void> {
  const call = { lease: from.lease, signal: AbortSignal.timeout(CLEANUP_MS) }
  await ignoring('not-found', snapshots.remove(from.scope, from.key, call))
}

/** Waits for the end of another call's work, good or bad, or of our own patience. */
async function settled(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = (): void => reject(new Fault('cancelled', 'The call was cancelled'))
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop, { once: true })
  const ended = work.then(
    () => undefined,
    () => undefined,
  )
  try {
    await Promise.race([ended, promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
