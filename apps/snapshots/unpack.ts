import { randomBytes } from 'node:crypto'
import { chainId } from '@gantry/model/chain-id'
import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Labels } from '@gantry/model/labels'
import type { Layers } from './layers.ts'
import type { Leased, LeaseHolder } from './leases.ts'
import type { Scope } from './rows.ts'
import { type Key, parseKey, TARGET_LABEL } from './snapshot.ts'
import { isThere, type Snapshots, type Staged } from './snapshots.ts'
import { startStopwatch } from './stages.ts'

/** A layer as the image has it: its blob, and the digest that its plain bytes are promised to have. */
export interface Layer {
  readonly blob: { readonly digest: Digest; readonly mediaType: string }
  readonly diffId: Digest
  /** Labels for a driver that brings layers by itself. */
  readonly hints: Labels
}

export interface Progress {
  /** Place in the chain, from 0. */
  readonly layer: number
  readonly phase: 'extracting' | 'extracted' | 'exists'
  readonly chainId: Digest
}

export interface UnpackParts {
  readonly snapshots: Snapshots
  readonly layers: Layers
  readonly leases: LeaseHolder
}

/** Turns the layers of an image, base first, into a chain of committed snapshots named by their chain IDs. */
export type Unpack = (scope: Scope, layers: readonly Layer[], call: Leased) => AsyncGenerator<Progress>

/** One layer to unpack, and where it belongs. */
export interface Step {
  readonly scope: Scope
  readonly layer: Layer
  readonly parent: Digest | ''
  readonly name: Digest
}

/** One layer on its way. All of its promises are heard, whoever else waits for them. */
interface Work {
  readonly step: Step
  /** Is it extracted by this call? False when it is there, or another call extracts it. */
  readonly isOurs: Promise<boolean>
  /** Its folder and those below, nearest first, as soon as nothing in them changes any more. */
  readonly joined: Promise<readonly string[]>
  /** Its record is written: it is on disk before any that is written from now on. */
  readonly named: Promise<void>
  /** It is a committed snapshot. */
  readonly done: Promise<'extracted' | 'exists'>
  /** Aborts when it fails, or one below it, or the call ends. */
  readonly signal: AbortSignal
}

/** What the steps of one call share. */
interface Run {
  readonly call: Leased
  /** Folders that were not needed; others may still read them, so they go when the call ends. */
  readonly surplus: Staged[]
}

/**
 * All layers are laid out at once, each alone in a folder that no record names, and joined in order. A chain ID names its
 * content, so it is safe to repeat and to race: a finished layer is skipped and one that another call works on is waited
 * for. Each gets its name only when its parent has, its bytes hash to the diff ID, and all is on disk. When a layer fails,
 * those below it are finished all the same.
 *
 * The messages of layers that are done come in order.
 *
 * @throws {Fault} `failed-precondition` when a layer's bytes do not hash to the diff ID the image config promises
 * @see https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
 */
export function createUnpack(parts: UnpackParts): Unpack {
  const bring = bringer(parts)
  return async function* (scope, layers, call) {
    const end = new AbortController()
    const signal = AbortSignal.any([call.signal, end.signal])
    const run: Run = { call: { lease: call.lease, signal }, surplus: [] }
    const works: Work[] = []
    for (const step of stepsOf(scope, layers)) works.push(bring(run, step, works.at(-1)))
    try {
      for (const [layer, { step, isOurs }] of works.entries())
        if (await isOurs) yield { layer, phase: 'extracting', chainId: step.name }
      for (const [layer, { step, done }] of works.entries()) yield { layer, phase: await done, chainId: step.name }
    } finally {
      end.abort()
      await Promise.allSettled(works.map(({ done }) => done))
      await Promise.allSettled(run.surplus.map(parts.snapshots.abandon)) // what stays is found by a repair, or the next start
    }
  }
}

type Bring = (run: Run, step: Step, below: Work | undefined) => Work

function bringer(parts: UnpackParts): Bring {
  const board = createFlights(parts)
  return (run, step, below) => {
    const failed = new AbortController()
    const signal = AbortSignal.any([below?.signal ?? run.call.signal, failed.signal])
    const call = { lease: run.call.lease, signal }
    const isOurs = Promise.withResolvers<boolean>()
    const joined = Promise.withResolvers<readonly string[]>()
    const named = Promise.withResolvers<void>()
    const extraction = { step, below, joined: joined.resolve, named: named.resolve }
    const work = async (): Promise<'extracted' | 'exists'> => {
      const boarded = await board(step, call, {
        start: () => extract(parts, { ...run, call }, extraction),
        waits: () => isOurs.resolve(false),
      })
      if (boarded === 'exists') {
        joined.resolve(parts.snapshots.layers(step.scope, parseKey(step.name, 'name')))
        return 'exists'
      }
      isOurs.resolve(true)
      await boarded.flight
      return 'extracted'
    }
    const done = work()
    done.then(
      () => {
        isOurs.resolve(false)
        named.resolve()
      },
      (error: unknown) => {
        isOurs.resolve(false)
        joined.reject(error)
        named.reject(error)
        failed.abort()
      },
    )
    for (const promise of [joined.promise, named.promise]) promise.catch(() => {}) // of the top layer: nobody waits
    return { step, isOurs: isOurs.promise, joined: joined.promise, named: named.promise, done, signal }
  }
}

interface Extraction {
  readonly step: Step
  readonly below: Work | undefined
  readonly joined: (folders: readonly string[]) => void
  readonly named: () => void
}

async function extract(parts: UnpackParts, run: Run, { step, below, joined, named }: Extraction): Promise<void> {
  const { snapshots, layers, leases } = parts
  const { call } = run
  const { scope, layer, parent, name } = step
  const staged = await snapshots.stage(scope)
  const watch = startStopwatch()
  const key = parseKey(name, 'name')
  const held = leases.hold(scope, key, call) // long before it is there, so that in the end nobody waits for it
  held.catch(() => {}) // heard below, unless something else fails first
  try {
    const { root } = staged
    const sync = layers.startSyncing(root)
    const what = { namespace: scope.namespace, ...layer, root, isBase: below === undefined }
    const first = await layers.layOut(what, call.signal)
    if (first.digest !== layer.diffId)
      throw new Fault(
        'failed-precondition',
        `Cannot unpack ${layer.blob.digest}: its diff ID is ${first.digest} and the image promises ${layer.diffId}`,
      )
    watch.lap('lay out')

    const synced = sync(call.signal) // while those below, and others, are still laid out
    synced.catch(() => {}) // heard below, unless something else fails first
    const lowers = (await below?.joined) ?? []
    watch.lap('below')
    const { usage, loose } = first.loose.needsBelow ? await layers.layOutOn(lowers, what, call.signal) : first
    const changed = await layers.settle(root, { loose, lowers }, call.signal)
    joined([root, ...lowers])
    watch.lap('settle')

    await synced
    if (changed || first.loose.needsBelow) await sync(call.signal)
    watch.lap('sync')
    await Promise.all([held, below?.named])
    const labels = labelsOf(step)
    const under = parent === '' ? undefined : parseKey(parent, 'parent')
    const adopting = { key: extractionKey(name), name: key, parent: under, labels, usage }
    const adopted = snapshots.adopt(scope, staged, adopting)
    named() // those above share its transaction
    await adopted
    watch.lap('commit')
    watch.tell(first)
  } catch (error) {
    run.surplus.push(staged)
    if (!isThere(error)) throw error // by a client that unpacks the same image
  }
}

interface Boarding<T> {
  /** Brings the layer. */
  start(): Promise<T>
  /** Somebody else does. */
  waits(): void
}

/**
 * Lets one of those who want the same layer bring it, and the others wait for that, good or bad. Answers the flight of the
 * one, and `exists` when the layer is there.
 */
export function createFlights(parts: Pick<UnpackParts, 'snapshots' | 'leases'>) {
  const flights = new Map<string, Promise<unknown>>()
  return async <T>(
    step: Step,
    call: Leased,
    { start, waits }: Boarding<T>,
  ): Promise<'exists' | { flight: Promise<T> }> => {
    const name = `${step.scope.namespace} ${step.scope.snapshotter} ${step.name}`
    for (;;) {
      if (await claim(parts, step, call)) return 'exists'
      const other = flights.get(name)
      if (!other) {
        const flight = start() // at once: of many who have waited only one may come here
        flights.set(name, flight)
        const end = (): void => void flights.delete(name)
        flight.then(end, end)
        return { flight }
      }
      waits()
      await settled(other, call.signal)
    }
  }
}

/** Is the layer there? Then the call's lease holds it from now on. */
async function claim(
  { snapshots, leases }: Pick<UnpackParts, 'snapshots' | 'leases'>,
  { scope, name }: Step,
  call: Leased,
): Promise<boolean> {
  const key = parseKey(name, 'name')
  if (!snapshots.has(scope, key)) return false
  await leases.hold(scope, key, call)
  return snapshots.has(scope, key) // it may have been collected just before
}

export function stepsOf(scope: Scope, layers: readonly Layer[]): Step[] {
  const steps: Step[] = []
  for (const layer of layers) {
    const parent = steps.at(-1)?.name ?? ''
    steps.push({ scope, layer, parent, name: chainId(parent, layer.diffId) })
  }
  return steps
}

/** What containerd labels an unpacked layer with. */
export function labelsOf({ name, layer, parent }: Step): Labels {
  return {
    [TARGET_LABEL]: name,
    'containerd.io/snapshot/diff-id': layer.diffId,
    'containerd.io/snapshot/parent-chain-id': parent,
  }
}

/** What events call the snapshot before it has its name; the form is containerd's. */
export function extractionKey(name: Digest): Key {
  const unique = `${BigInt(Date.now()) * 1_000_000n}-${randomBytes(3).toString('base64url')}`
  return parseKey(`extract-${unique} ${name}`, 'key')
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
