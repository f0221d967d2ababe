import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { isSystemError } from '@gantry/linux/system'
import type { Difference, Repair } from '@gantry/service/repair'
import { mountedNumbers } from './collect.ts'
import type { Driver, Trees } from './drivers/driver.ts'
import type { Activations } from './mounts/activations.ts'
import type { Rows, Scope } from './rows.ts'
import type { Snapshot } from './snapshot.ts'
import type { Snapshots } from './snapshots.ts'

interface RepairParts {
  readonly rows: Rows
  readonly snapshots: Pick<Snapshots, 'making'>
  readonly drivers: readonly Driver[]
  readonly activations: Pick<Activations, 'strays' | 'takeDown'>
  /** Folder of the mount points of activations. */
  readonly mounts: string
  /** The mounts of this host, in the kernel's form. */
  readonly mountTable: () => string
}

/** Compares the records with the folders of the drivers and with the mounts that stay active. */
export function createRepair(parts: RepairParts): Repair {
  return async function* repair(dryRun, signal) {
    for (const { name, trees } of parts.drivers) {
      if (!trees) continue
      signal.throwIfAborted()
      yield* straysOf(name, trees, { ...parts, dryRun })
      yield* missingOf(name, trees, parts)
    }
    yield* strayMounts(parts, dryRun)
  }
}

/**
 * The disk is looked at first, then what is being made, then the records: a tree that was made meanwhile is in one of both.
 * A number stands for one snapshot for ever, so nothing becomes known that was not.
 */
async function* straysOf(
  snapshotter: string,
  trees: Trees,
  { rows, snapshots, mountTable, dryRun }: RepairParts & { dryRun: boolean },
): AsyncGenerator<Difference> {
  const found = await trees.names()
  const making = new Set(snapshots.making())
  const known = new Set<number>()
  for (const { scope, snapshot } of rows.list([])) if (scope.snapshotter === snapshotter) known.add(snapshot.id)
  const mounted = new Set(mountedNumbers(mountTable(), [trees.root]))
  for (const { name, id } of found) {
    if (id !== undefined && (known.has(id) || making.has(id))) continue
    const of = join(trees.root, name)
    if (!existsSync(of)) continue // it was removed meanwhile
    const what = 'A folder of a snapshot without a record'
    if (id !== undefined && mounted.has(id)) yield { what, of, advice: 'it is mounted: unmount it, and repair again' }
    else if (dryRun || (await trees.drop(name))) yield { what, of }
  }
}

async function* missingOf(snapshotter: string, trees: Trees, { rows }: RepairParts): AsyncGenerator<Difference> {
  for (const { scope, snapshot } of rows.list([])) {
    if (scope.snapshotter !== snapshotter || trees.has(snapshot.id)) continue
    if (rows.find(scope)(snapshot.key)?.id !== snapshot.id) continue // it was removed meanwhile
    yield { what: 'A snapshot without its folder', of: nameOf(scope, snapshot), advice: adviceOn(snapshot) }
  }
}

function adviceOn({ kind, key }: Snapshot): string {
  if (kind !== 'committed') return 'remove its container, and run it anew'
  return `"gantry why ${key}" tells which images and containers need it: remove those, and pull the images again`
}

function nameOf({ namespace, snapshotter }: Scope, { key }: Snapshot): string {
  return `${snapshotter} snapshot ${key} in ${namespace}`
}

async function* strayMounts({ activations, mounts }: RepairParts, dryRun: boolean): AsyncGenerator<Difference> {
  for (const id of activations.strays()) {
    const found = { what: 'A mount without a record', of: join(mounts, id) }
    try {
      if (!dryRun) await activations.takeDown({ id })
      yield found
    } catch (error) {
      if (!isSystemError(error)) throw error
      yield { ...found, advice: `remove it by hand: ${error.message}` }
    }
  }
}
