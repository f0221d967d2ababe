import { Blobs } from '@gantry/api/gantry/content/v1/blobs_pb'
import type { Digest } from '@gantry/model/digest'
import { Fault, ignoring } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import { type Channel, clientOf } from '@gantry/rpc/client'
import type { Apply } from './diff/apply.ts'
import type { Leased, LeaseHolder } from './leases.ts'
import { parseKey } from './snapshot.ts'
import { isThere, type Snapshots } from './snapshots.ts'
import { createFlights, extractionKey, labelsOf, type Step, stepsOf, type Unpack } from './unpack.ts'

const UNDO_MS = 60_000

interface StepwiseParts {
  /** The process that keeps the blobs. */
  readonly content: Channel
  readonly snapshots: Snapshots
  readonly apply: Apply
  readonly leases: LeaseHolder
}

/** Layers side by side where the driver can, otherwise one upon the other. */
export function chooseUnpack(snapshots: Snapshots, ways: { sideBySide: Unpack; stepwise: Unpack }): Unpack {
  return (scope, layers, call) => (snapshots.canStage(scope) ? ways.sideBySide : ways.stepwise)(scope, layers, call)
}

/**
 * Unpacks layer upon layer, as clients do by themselves: a snapshot on the one below, the layer applied to its mounts, the
 * commit. For drivers that cannot lay layers out side by side. As with `createUnpack`, it is safe to repeat and to race.
 *
 * A driver that fetches layers by itself is asked first, by the target label: when it has one nothing is extracted.
 *
 * @throws {Fault} `failed-precondition` when a layer's bytes do not hash to the diff ID the image config promises
 */
export function createStepwise(parts: StepwiseParts): Unpack {
  const board = createFlights(parts)
  return async function* (scope, layers, call) {
    for (const [layer, step] of stepsOf(scope, layers).entries()) {
      const boarded = await board(step, call, { start: () => bring(parts, step, call), waits() {} })
      if (boarded === 'exists') {
        yield { layer, phase: 'exists', chainId: step.name }
        continue
      }
      yield { layer, phase: 'extracting', chainId: step.name }
      yield { layer, phase: await boarded.flight, chainId: step.name }
    }
  }
}

async function bring(parts: StepwiseParts, step: Step, call: Leased): Promise<'extracted' | 'exists'> {
  const { snapshots, apply, content } = parts
  const { scope, layer, name } = step
  const { namespace } = scope
  const key = extractionKey(name)
  const parent = step.parent === '' ? undefined : parseKey(step.parent, 'parent')
  const labels = { ...layer.hints, ...labelsOf(step) }
  let opened = false
  try {
    const mounts = await snapshots.open(scope, { kind: 'active', key, parent, labels }, call)
    opened = true
    await arrival(layer.blob.digest, { content, namespace }, call.signal)
    const { digest } = await apply({ namespace, blob: layer.blob, mounts, sync: true, measure: false }, call.signal)
    if (digest !== layer.diffId)
      throw new Fault(
        'failed-precondition',
        `Cannot unpack ${layer.blob.digest}: its diff ID is ${digest} and the image promises ${layer.diffId}`,
      )
    await snapshots.commit(scope, { key, name: parseKey(name, 'name'), parent: undefined, labels }, call)
    return 'extracted'
  } catch (error) {
    const undo = { lease: call.lease, signal: AbortSignal.timeout(UNDO_MS) }
    if (opened) await ignoring('not-found', snapshots.remove(scope, key, undo))
    if (isThere(error) && snapshots.has(scope, parseKey(name, 'name'))) return 'exists'
    throw error
  }
}

/** Resolves when a blob that is still on its way is whole. @throws {Fault} `not-found`, `aborted` when nobody brings it */
async function arrival(
  digest: Digest,
  { content, namespace }: { content: Channel; namespace: Namespace },
  signal: AbortSignal,
): Promise<void> {
  for await (const { done } of clientOf(Blobs, content).follow({ digest }, { signal, namespace })) if (done) return
}
