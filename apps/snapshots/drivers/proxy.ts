import { Kind, Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Fault, ignoring } from '@gantry/model/fault'
import type { Labels } from '@gantry/model/labels'
import { type Channel, type Client, clientOf } from '@gantry/rpc/client'
import type { Store } from '@gantry/store/store'
import type { Table } from '@gantry/store/table'
import { TARGET_LABEL } from '../snapshot.ts'
import { type Backlog, createBacklog } from './backlog.ts'
import type { Creation, Driver, Mount, Stack } from './driver.ts'

const REMOVE_MS = 60_000 // one call to the remote
/** The remote may be a daemon that collects what nobody names: it does not know who names this. */
const KEEP: Labels = { 'containerd.io/gc.root': 'proxy' }

/** What the remote calls the snapshot of a number. */
export interface RemoteRow {
  /** Whose it is, there as here. */
  readonly namespace: string
  /** The first one counts; while a snapshot is being committed there may be another. */
  readonly names: readonly string[]
}

export interface ProxyParts {
  readonly name: string
  /** Path of its socket, as Introspection tells it. */
  readonly address: string
  /** What the remote is asked for as `snapshotter`. */
  readonly remoteName: string
  readonly capabilities: readonly string[]
  readonly channel: Channel
  /** Under `<name> <number>`: what the remote has of ours. */
  readonly table: Table<RemoteRow>
  readonly write: Store['write']
  /** Hears of a snapshot that could not be removed from the remote; it is tried again later. */
  readonly report: (error: unknown, name: string) => void
}

/**
 * Snapshots that another process keeps: any snapshotter that speaks containerd's Snapshots service, as containerd's proxy
 * plugins do. It gets the keys that containerd would send (`<namespace>/<number>/<key>`, which no two of ours share), the
 * labels that are meant for drivers, and the namespace as header. Its errors are answered as they are, but for one: what is
 * there already, though nobody has asked for it by a label, is `unknown`, as with containerd.
 *
 * A row is written before the remote is called and taken away after: a crash leaves at worst a row whose number no record
 * has, and the next start removes what it names.
 */
export function createProxy(parts: ProxyParts): Driver & AsyncDisposable {
  const { name, report } = parts
  const remote = clientOf(Snapshots, parts.channel)
  const known = createKnown(parts)
  const backlog = createBacklog(
    (id, signal) => remove(id, { ...parts, remote, known }, signal),
    (error, id) => report(error, known.namesOf(id)[0] ?? String(id)),
  )
  return {
    name,
    exports: { address: parts.address },
    capabilities: parts.capabilities,
    ...callsOf({ ...parts, remote, known }, backlog),

    async discard(id) {
      if (known.namesOf(id).length > 0) backlog.add(id)
    },

    async cleanup(signal) {
      await backlog.settled(signal)
      const call = remote.cleanup({ snapshotter: parts.remoteName }, { signal })
      await ignoring('unimplemented', ignoring('failed-precondition', call)) // a daemon, which has none or wants a namespace
    },

    owns: () => false,

    async recover(recorded) {
      for (const id of known.ids()) if (!recorded.has(id)) backlog.add(id) // in the background: the remote may not run yet
      return Math.max(0, ...known.ids())
    },

    [Symbol.asyncDispose]: backlog.stop,
  }
}

/** What the remote has of ours. */
interface Known {
  ids(): number[]
  /** @throws {Fault} `not-found` */
  row(id: number): RemoteRow & { readonly key: string }
  namesOf(id: number): readonly string[]
  put(id: number, row: RemoteRow): Promise<void>
  remove(id: number): Promise<void>
  /** Does another number mean the same? Only a name that the remote has given can be shared. */
  isShared(key: string, id: number): boolean
  /** One after the other: what adopts a name that the remote has given, and what removes one. */
  alone<T>(work: () => Promise<T>): Promise<T>
}

function createKnown({ name, table, write }: ProxyParts): Known {
  const keyOf = (id: number): string[] => [name, String(id)]
  const namesOf = (id: number): readonly string[] => table.get(keyOf(id))?.names ?? []
  const ids = (): number[] => Array.from(table.list({ prefix: [name] }), ({ key }) => Number(key[1]))
  let last: Promise<unknown> = Promise.resolve()
  return {
    ids,
    namesOf,
    row(id) {
      const row = table.get(keyOf(id))
      const key = row?.names[0]
      if (!row || key === undefined) throw new Fault('not-found', `Snapshot ${id} of "${name}" is gone from the remote`)
      return { ...row, key }
    },
    put: (id, row) => write(() => table.put(keyOf(id), row)),
    remove: (id) => write(() => table.remove(keyOf(id))),
    isShared: (key, id) => ids().some((other) => other !== id && namesOf(other).includes(key)),
    alone(work) {
      const mine = last.then(work)
      last = mine.catch(() => undefined)
      return mine
    },
  }
}

interface Inner extends ProxyParts {
  readonly remote: Client<typeof Snapshots>
  readonly known: Known
}

/** Nothing of ours may be there: that is well. What several numbers share goes with the last. */
async function remove(id: number, { remoteName, remote, known }: Inner, stop: AbortSignal): Promise<void> {
  if (known.namesOf(id).length === 0) return // gone already
  const { names, namespace } = known.row(id)
  const signal = AbortSignal.any([stop, AbortSignal.timeout(REMOVE_MS)])
  const take = (key: string): Promise<unknown> =>
    ignoring('not-found', remote.remove({ snapshotter: remoteName, key }, { signal, namespace }))
  for (const key of names)
    if (key.startsWith(`${namespace}/${id}/`)) await take(key)
    else await known.alone(async () => known.isShared(key, id) || take(key))
  await known.remove(id)
}

type Calls = 'create' | 'mounts' | 'commit' | 'relabel' | 'usage'

function callsOf({ remoteName: snapshotter, remote, known }: Inner, backlog: Backlog): Pick<Driver, Calls> {
  return {
    async create({ kind, id, parents, labels }, title, signal): Promise<Creation> {
      const { namespace } = title
      const key = `${namespace}/${id}/${title.key}`
      const parent = parents[0] === undefined ? '' : known.row(parents[0]).key
      const request = { snapshotter, key, parent, labels: { ...KEEP, ...labels } }
      await known.put(id, { namespace, names: [key] })
      try {
        const call = { signal, namespace }
        const asked: Promise<{ readonly mounts: Mount[] }> =
          kind === 'active' ? remote.prepare(request, call) : remote.view(request, call)
        const answer = await ignoring('already-exists', asked)
        if (answer) return { made: answer.mounts }
        const target = labels[TARGET_LABEL]
        if (!target) throw new Fault('unknown', `Cannot make the snapshot: "${snapshotter}" says that ${key} is there`)
        await known.alone(async () => {
          const found = await findTarget(remote, { snapshotter, namespace, parent, target }, signal)
          await known.put(id, { namespace, names: [found] })
        })
        return { found: true }
      } catch (error) {
        backlog.add(id) // the call may have come through all the same
        throw error
      }
    },

    async mounts({ id }: Stack, signal): Promise<Mount[]> {
      const { key, namespace } = known.row(id)
      return (await remote.mounts({ snapshotter, key }, { signal, namespace })).mounts
    },

    async commit(id, commitment, signal) {
      const { key, names, namespace } = known.row(id)
      const committed = `${namespace}/${id}/${commitment.name}`
      const parent = commitment.parent === undefined ? '' : known.row(commitment.parent).key
      const request = { snapshotter, key, name: committed, parent, labels: { ...KEEP, ...commitment.labels } }
      await known.put(id, { namespace, names: [...names, committed] })
      await ignoring('already-exists', remote.commit(request, { signal, namespace })) // by us, before a crash
      await known.put(id, { namespace, names: [committed] })
    },

    async relabel(id, labels, signal) {
      const { key, namespace } = known.row(id)
      const info = { name: key, labels: { ...KEEP, ...labels } }
      await remote.update({ snapshotter, info, updateMask: { paths: ['labels'] } }, { signal, namespace })
    },

    async usage(id, signal) {
      const { key, namespace } = known.row(id)
      const { size, inodes } = await remote.usage({ snapshotter, key }, { signal, namespace })
      return { size, inodes }
    },
  }
}

interface Target {
  readonly snapshotter: string
  readonly namespace: string
  readonly parent: string
  readonly target: string
}

/**
 * The remote says that it has the layer that was asked for by its target label: then it has a committed snapshot with that
 * label, on that parent. Answers its name.
 * @throws {Fault} `not-found` when it has none after all
 * @see behaviour facts, 6: remote snapshot convention
 */
async function findTarget(
  remote: Client<typeof Snapshots>,
  { snapshotter, namespace, parent, target }: Target,
  signal: AbortSignal,
): Promise<string> {
  const filters = [`labels."${TARGET_LABEL}"==${JSON.stringify(target)},parent==${JSON.stringify(parent)}`]
  for await (const { info } of remote.list({ snapshotter, filters }, { signal, namespace })) {
    const found = info.find(
      (each) => each.kind === Kind.COMMITTED && each.parent === parent && each.labels[TARGET_LABEL] === target,
    )
    if (found) return found.name
  }
  throw new Fault('not-found', `target snapshot ${JSON.stringify(target)} in the remote: not found`)
}
