import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { checkLabels, type Labels, withoutEmpty } from '@gantry/model/labels'
import type { Namespace } from '@gantry/model/namespace'
import type { Store } from '@gantry/store/store'
import type { Table } from '@gantry/store/table'
import type { Mount } from '../drivers/driver.ts'
import type { Pool } from '../extract/pool.ts'
import type { Activation, ActiveMount } from './active.ts'
import { stands, takeDown } from './carry-out.ts'
import { planOf, type Step } from './plan.ts'
import { makeFolders, makeImage } from './prepare.ts'
import { fillMount } from './template.ts'

const MAX_MOUNTS = 1024 // of one activation

/** Under `<namespace> <name>`. */
export interface ActivationRow extends Activation {
  /** Names its folder. */
  readonly id: string
  /** The lease it was activated under: it is collected with that. */
  readonly lease?: string
}

export interface Activating {
  readonly name: string
  readonly mounts: readonly Mount[]
  readonly labels: Labels
  /** Mount all of it, and answer where. */
  readonly temporary: boolean
  readonly lease: string | undefined
}

/** Mounts that stay active under a name, whoever asked for them. */
export interface Activations {
  /** @throws {Fault} `already-exists`; `unimplemented` when there is nothing to do here; `invalid-argument`; `failed-precondition` */
  activate(namespace: Namespace, activating: Activating, signal: AbortSignal): Promise<Activation>
  /** @throws {Fault} `not-found` */
  deactivate(namespace: Namespace, name: string): Promise<void>
  /** @throws {Fault} `not-found` */
  info(namespace: Namespace, name: string): Activation
  list(namespace: Namespace): Iterable<{ readonly name: string; readonly activation: Activation }>
  /** Of all namespaces; only for collections, as what follows. */
  all(): Iterable<{ readonly namespace: string; readonly name: string; readonly row: ActivationRow }>
  get(namespace: string, name: string): ActivationRow | undefined
  /** Inside a write: takes the name away. */
  drop(namespace: string, name: string): ActivationRow | undefined
  /** What lies in the folder of mount points and has no record, nor is being made or taken down: ids. */
  strays(): string[]
  /** Takes away what was mounted under a name that is gone. */
  takeDown(row: Pick<ActivationRow, 'id'>): Promise<void>
}

export interface ActivationsParts {
  readonly table: Table<ActivationRow>
  readonly write: Store['write']
  /** Mounts: it takes as long as a disk or a network does. */
  readonly mounters: Pick<Pool, 'run'>
  /** Absolute folder for mount points; a reboot may clear it. */
  readonly folder: string
  /** Folders may be made below these, beside the mounts of the list itself. */
  readonly roots: readonly string[]
  /** Milliseconds since 1970. */
  readonly clock: () => number
  /** Hears of what could not be taken down; the next start tries again. */
  readonly report: (error: unknown, path: string) => void
}

/** Also looks at what the last run has left: what still stands is kept, of everything else mounts, devices and records go. */
export async function createActivations(parts: ActivationsParts): Promise<Activations> {
  const { table, write, folder } = parts
  await recover(parts)
  const changing = new Set<string>()
  return {
    async activate(namespace, activating, signal) {
      const { name, mounts, labels, temporary, lease } = activating
      checkLabels(labels)
      if (name === '') throw new Fault('invalid-argument', 'Cannot activate mounts: they have no name')
      if (mounts.length > MAX_MOUNTS) throw new Fault('invalid-argument', `Cannot activate ${mounts.length} mounts`)
      const check = (): void => {
        if (table.has([namespace, name]))
          throw new Fault('already-exists', `mount ${JSON.stringify(name)}: already exists`)
      }
      check()
      const plan = planOf(mounts, temporary)
      const id = randomUUID()
      changing.add(id)
      try {
        const done = await perform(plan, { ...parts, folder: join(folder, id) }, signal)
        const last = done.active.at(-1)
        const bind = temporary && last ? [{ type: 'bind', source: last.point, target: '', options: ['rbind'] }] : []
        const own = { id, labels: withoutEmpty(labels), ...(lease !== undefined && { lease }) }
        const row: ActivationRow = { ...own, active: done.active, system: [...done.system, ...bind] }
        await write(() => {
          check() // again: others went on meanwhile
          table.put([namespace, name], row)
        })
        return row
      } catch (error) {
        await tryTakeDown(id, parts)
        throw error
      } finally {
        changing.delete(id)
      }
    },

    async deactivate(namespace, name) {
      const { id } = existing(table, namespace, name)
      changing.add(id)
      try {
        await write(() => table.remove([namespace, name]))
        await tryTakeDown(id, parts)
      } finally {
        changing.delete(id)
      }
    },

    info: (namespace, name) => existing(table, namespace, name),

    *list(namespace) {
      for (const { key, value } of table.list({ prefix: [namespace] })) yield { name: key[1] ?? '', activation: value }
    },

    *all() {
      for (const { key, value } of table.list()) yield { namespace: key[0] ?? '', name: key[1] ?? '', row: value }
    },

    get: (namespace, name) => table.get([namespace, name]),

    drop(namespace, name) {
      const row = table.get([namespace, name])
      table.remove([namespace, name])
      return row
    },

    strays() {
      const found = readdirSync(folder)
      const known = new Set(Array.from(table.list(), ({ value }) => value.id))
      return found.filter((id) => !known.has(id) && !changing.has(id))
    },

    takeDown: ({ id }) => takeDown(join(folder, id)),
  }
}

interface Performing extends ActivationsParts {
  /** Of this activation. */
  readonly folder: string
}

interface Performed {
  readonly active: readonly ActiveMount[]
  readonly system: readonly Mount[]
}

async function perform(
  plan: { steps: readonly Step[]; mounted: number },
  parts: Performing,
  signal: AbortSignal,
): Promise<Performed> {
  const active: ActiveMount[] = []
  const system: Mount[] = []
  mkdirSync(parts.folder, { mode: 0o700 })
  for (const [place, step] of plan.steps.entries()) {
    signal.throwIfAborted()
    const mount = await madeReady(step, { ...parts, active }, signal)
    if (place >= plan.mounted) system.push(mount)
    else {
      const point = await parts.mounters.run({ kind: 'activate', folder: parts.folder, mount, active }, signal)
      active.push({ mount, point, mountedAt: parts.clock() })
    }
  }
  return { active, system }
}

async function madeReady(
  { mount, transforms }: Step,
  { active, roots }: { active: readonly ActiveMount[]; roots: readonly string[] },
  signal: AbortSignal,
): Promise<Mount> {
  let ready = transforms.has('format') ? fillMount(mount, active) : mount
  if (transforms.has('mkfs')) ready = await makeImage(ready, signal)
  if (transforms.has('mkdir')) ready = makeFolders(ready, [...roots, ...active.map(({ point }) => point)])
  return ready
}

async function tryTakeDown(id: string, { folder, report }: Pick<ActivationsParts, 'folder' | 'report'>): Promise<void> {
  const path = join(folder, id)
  try {
    await takeDown(path)
  } catch (error) {
    report(error, path)
  }
}

async function recover(parts: ActivationsParts): Promise<void> {
  const { table, write, folder } = parts
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const kept = new Set<string>()
  const lost: (readonly string[])[] = []
  for (const { key, value } of table.list()) {
    if (stands(value.active)) kept.add(value.id)
    else lost.push(key)
  }
  await write(() => {
    for (const key of lost) table.remove(key)
  })
  for (const id of readdirSync(folder)) if (!kept.has(id)) await tryTakeDown(id, parts)
}

function existing(table: Table<ActivationRow>, namespace: Namespace, name: string): ActivationRow {
  const row = table.get([namespace, name])
  if (!row) throw new Fault('not-found', `mount ${JSON.stringify(name)}: not found`)
  return row
}
