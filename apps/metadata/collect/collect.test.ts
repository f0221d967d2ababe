/**
 * Random histories: clients write and delete, owners and the collector are killed, and in between collections run. The
 * model is a second, naive way to say what is referred to, asked at the very moment at which something is removed.
 */
import { createBarrier } from '@gantry/service/barrier'
import { type Keeper, localParty, type Node, nodeOf, type Party, type ThingName } from '@gantry/service/collection'
import type { Table } from '@gantry/store/table'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { collect, type Parties } from './collect.ts'

const NAMES = ['a', 'b', 'c', 'd', 'e'] as const
const REF = 'containerd.io/gc.ref.content.'
const BREF = 'containerd.io/gc.bref.container'
const OWNERS = ['metadata', 'content', 'snapshots'] as const
type Owner = (typeof OWNERS)[number]

interface Row {
  readonly labels: Record<string, string>
  readonly refs: readonly string[]
  readonly heldBy?: readonly string[]
}

const op = fc.oneof(
  fc.record({ do: fc.constant('image'), name: fc.constantFrom(...NAMES), to: fc.constantFrom(...NAMES) }),
  fc.record({ do: fc.constant('container'), name: fc.constantFrom(...NAMES), to: fc.constantFrom(...NAMES) }),
  fc.record({ do: fc.constant('lease'), name: fc.constantFrom(...NAMES), to: fc.constantFrom(...NAMES) }),
  fc.record({ do: fc.constant('blob'), name: fc.constantFrom(...NAMES), to: fc.constantFrom('', ...NAMES) }),
  fc.record({ do: fc.constant('leased blob'), name: fc.constantFrom(...NAMES), to: fc.constantFrom('', ...NAMES) }),
  fc.record({ do: fc.constant('snapshot'), name: fc.constantFrom(...NAMES), to: fc.constantFrom('', ...NAMES) }),
  fc.record({ do: fc.constant('use'), name: fc.constantFrom(...NAMES), to: fc.constantFrom(...NAMES) }),
  fc.record({ do: fc.constant('sandbox'), name: fc.constantFrom(...NAMES), to: fc.constantFrom(...NAMES) }),
  fc.record({ do: fc.constant('stream'), name: fc.constantFrom(...NAMES), to: fc.constantFrom('', ...NAMES) }),
  fc.record({ do: fc.constant('mount'), name: fc.constantFrom(...NAMES), to: fc.constantFrom('', ...NAMES) }),
  fc.record({ do: fc.constant('box mount'), name: fc.constantFrom(...NAMES), to: fc.constantFrom(...NAMES) }),
  fc.record({
    do: fc.constant('drop'),
    name: fc.constantFrom(...NAMES),
    to: fc.constantFrom('images', 'containers', 'leases', 'sandboxes', 'content'),
  }),
  fc.record({ do: fc.constant('kill'), name: fc.constantFrom(...OWNERS), to: fc.constant('') }),
)
type Op = typeof op extends fc.Arbitrary<infer T> ? T : never

function createWorld() {
  const owners = Object.fromEntries(OWNERS.map((name) => [name, createOwner()])) as Record<
    Owner,
    ReturnType<typeof createOwner>
  >
  const { metadata, content, snapshots } = owners
  const has = (key: string) => [metadata, content, snapshots].some(({ rows }) => rows.has(key))

  function reachable(): Set<string> {
    const found = new Set<string>()
    const visit = (key: string): void => {
      if (found.has(key)) return
      const row = metadata.rows.get(key) ?? content.rows.get(key) ?? snapshots.rows.get(key)
      if (!row) return
      found.add(key)
      for (const ref of row.refs) visit(ref)
      for (const [label, id] of Object.entries(row.labels)) if (label.startsWith(REF)) visit(`content/${id}`)
    }
    for (const key of metadata.rows.keys()) visit(key)
    for (const { rows } of [content, snapshots]) {
      for (const [key, { labels, heldBy = [] }] of rows) {
        const holders = [...heldBy, ...(BREF in labels ? [`containers/${labels[BREF]}`] : [])]
        if (!/^(streams|mounts)/.test(key)) continue
        if (holders.length === 0 || holders.some((holder) => found.has(holder))) visit(key)
      }
    }
    return found
  }

  /** What a client does, step by step, each of which may have to wait. */
  async function act({ do: what, name, to }: Op): Promise<void> {
    const labels: Record<string, string> = to === '' ? {} : { [`${REF}0`]: to }
    switch (what) {
      case 'image':
        return metadata.put(`images/${name}`, { labels: {}, refs: [`content/${to}`] })
      case 'container':
        return metadata.put(`containers/${name}`, { labels: {}, refs: [`snapshots/o/${to}`] })
      case 'lease':
        return metadata.put(`leases/${name}`, { labels: {}, refs: [`content/${to}`, `snapshots/o/${to}`] })
      case 'blob':
        return content.put(`content/${name}`, { labels, refs: [] })
      case 'leased blob':
        await metadata.put(`leases/${name}`, { labels: {}, refs: [`content/${name}`] })
        return content.put(`content/${name}`, { labels, refs: [] })
      case 'snapshot':
        return snapshots.write(() => {
          if (to !== '' && (to >= name || !snapshots.rows.has(`snapshots/o/${to}`))) return
          if (!snapshots.rows.has(`snapshots/o/${name}`))
            snapshots.set(`snapshots/o/${name}`, { labels: {}, refs: to === '' ? [] : [`snapshots/o/${to}`] })
        })
      case 'sandbox':
        return metadata.put(`sandboxes/${name}`, { labels, refs: [] })
      case 'stream': // opened by a client under its lease, or without
      case 'mount': {
        const row = { labels: {}, refs: [], heldBy: to === '' ? [] : [`leases/${to}`] }
        if (to !== '') await metadata.put(`leases/${to}`, { labels: {}, refs: [] })
        return what === 'stream' ? content.put(`streams/${name}`, row) : snapshots.put(`mounts/${name}`, row)
      }
      case 'box mount':
        return snapshots.put(`mounts/${name}`, { labels: { [BREF]: to }, refs: [] })
      case 'use': // of what is there already: held first, then looked at again
        if (!content.rows.has(`content/${name}`)) return
        await metadata.put(`leases/use-${name}`, { labels: {}, refs: [`content/${name}`] })
        if (content.rows.has(`content/${name}`))
          await metadata.put(`images/${to}`, { labels: {}, refs: [`content/${name}`] })
        return
      case 'drop':
        return (to === 'content' ? content : metadata).write(() =>
          owners[to === 'content' ? 'content' : 'metadata'].rows.delete(`${to}/${name}`),
        )
      case 'kill':
        owners[name as Owner].kill()
    }
  }
  return { owners, reachable, act, has }

  function createOwner() {
    const rows = new Map<string, Row>()
    let life = 0
    const inner = { write: async <T>(fn: (emit: () => void) => T) => fn(() => undefined) }
    const fresh = () => {
      const barrier = createBarrier(inner)
      const table = barrier.watch(
        { put: ([key = '']: readonly string[], row: Row) => void rows.set(key, row) } as Table<Row>,
        ([key = '']) => thingOf(key),
      )
      return { barrier, table, party: localParty(barrier, keeperOf(rows)) }
    }
    let at = fresh()
    const write = async (fn: () => unknown): Promise<void> => {
      const mine = life
      await at.barrier.changes.write(() => mine === life && fn()) // what waited when it was killed never happens
    }
    const set = (key: string, row: Row): void => at.table.put([key], row)
    return {
      rows,
      write,
      set,
      put: (key: string, row: Row) => write(() => set(key, row)),
      kill() {
        life++
        const { barrier } = at
        at = fresh()
        void barrier.begin('') // lets go of what waits
      },
      party: (): Party => at.party,
    }
  }

  function keeperOf(rows: Map<string, Row>): Keeper {
    const node = (key: string, { labels, refs, heldBy = [] }: Row): Node =>
      nodeOf(thingOf(key), { labels, refs: refs.map(thingOf), heldBy: heldBy.map(thingOf) })
    return {
      *nodes() {
        for (const [key, row] of [...rows]) yield node(key, row)
      },
      node(thing) {
        const key = keyOf(thing)
        const row = rows.get(key)
        return row && node(key, row)
      },
      inUse: () => [],
      async sweep(things) {
        const kept = reachable()
        for (const thing of things) {
          expect(kept).not.toContain(keyOf(thing))
          rows.delete(keyOf(thing))
        }
        return things.length
      },
      clean: async () => undefined,
    }
  }
}

const keyOf = ({ kind, id }: ThingName): string => `${kind}/${id}`
function thingOf(key: string): ThingName {
  const at = key.lastIndexOf('/')
  return { namespace: 'n', kind: key.slice(0, at), id: key.slice(at + 1) }
}

/** Lets clients work before and after each step of a collection. Nobody is killed and back again within a sweep. */
function disturbed(
  name: Owner,
  world: ReturnType<typeof createWorld>,
  disturb: (mayKill?: boolean) => Promise<void>,
): Party {
  const { owners } = world
  const between = async <T>(step: () => Promise<T>, mayKill = true): Promise<T> => {
    await disturb(mayKill)
    const result = await step()
    await disturb(mayKill)
    return result
  }
  return {
    async *scan(token, signal) {
      await disturb()
      for await (const nodes of owners[name].party().scan(token, signal)) {
        yield nodes
        await disturb()
      }
    },
    pause: (token, holdMs, signal) => between(() => owners[name].party().pause(token, holdMs, signal)),
    sweep: (token, things, signal) => between(() => owners[name].party().sweep(token, things, signal), false),
    resume: (token, more, signal) => between(() => owners[name].party().resume(token, more, signal)),
    counts: (signal) => owners[name].party().counts(signal),
  }
}

test('nothing that is referred to is ever removed, and nothing else stays for longer than one quiet collection', async () => {
  const signal = AbortSignal.timeout(60_000)
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(op, { maxLength: 4 }), { minLength: 10, maxLength: 80 }),
      fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
      async (ops, endings) => {
        const history = [...ops]
        const late: Op[] = []
        const world = createWorld()
        const acting: Promise<void>[] = []
        const disturb = async (mayKill = true): Promise<void> => {
          const now = [...(mayKill ? late.splice(0) : []), ...(history.shift() ?? [])]
          for (const each of now)
            if (each.do === 'kill' && !mayKill) late.push(each)
            else acting.push(world.act(each))
          await new Promise((resolve) => setImmediate(resolve))
        }
        const parties = Object.fromEntries(
          OWNERS.map((name) => [name, disturbed(name, world, disturb)]),
        ) as unknown as Parties

        for (const isKilled of endings) {
          const ending = new AbortController()
          const collection = collect(parties, 0, AbortSignal.any([signal, ending.signal]))
          if (isKilled) setImmediate(() => ending.abort())
          await collection.catch((error: unknown) => {
            if (isAssertion(error)) throw error
          })
        }
        while (history.length > 0) await disturb()
        await Promise.all(acting)
        const quiet = Object.fromEntries(OWNERS.map((name) => [name, world.owners[name].party()])) as unknown as Parties
        await collect(quiet, 0, signal)

        const left = OWNERS.flatMap((name) => [...world.owners[name].rows.keys()])
        expect(new Set(left)).toEqual(world.reachable())
      },
    ),
    { numRuns: 300 },
  )
}, 60_000)

function isAssertion(error: unknown): boolean {
  return error instanceof Error && error.name === 'AssertionError'
}
