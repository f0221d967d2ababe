import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { type Metrics, SECONDS } from '@gantry/model/metric'
import type { Codec } from './codec.ts'
import { type Database, openDatabase } from './database.ts'
import { createTable, type Table } from './table.ts'
import type { View } from './view.ts'

const BLOCK_BYTES = 512 // what stat counts in
const TABLE_NAME = /^[a-z][a-z0-9-]{0,62}$/

/**
 * The records of one owner: ordered tables in one LMDB environment, which only this process writes.
 *
 *   write(fn) -> fn runs at once -> its changes join the waiting group -> the group becomes one transaction -> flushed
 *
 * One group is in flight at a time; what arrives meanwhile waits and commits together. A later write already sees the
 * changes of an earlier one that is not on disk yet, so when a commit fails, every write that waits fails with it.
 */
export interface Store extends AsyncDisposable {
  /** The same name always means the same records; lower-case letters, digits and dashes. */
  table<V>(name: string, codec: Codec<V>): Table<V>
  /**
   * Runs `fn`, which is synchronous, and stores all its puts and removes as one transaction, or nothing when it throws.
   * Resolves with its result once that is on disk. Reads of other writes never fall between its changes.
   *
   * @throws {Fault} `resource-exhausted` when the disk is full, `failed-precondition` when the folder is read-only
   */
  write<T>(fn: () => T): Promise<T>
}

interface Group {
  readonly changes: Map<string, Uint8Array | null>
  readonly waiters: { resolve: () => void; reject: (error: unknown) => void }[]
}

/**
 * Opens the records in `path`, a folder that is made (mode 0700) when it is not there.
 *
 * @param metrics where its commits are counted, if anywhere
 * @throws {Fault} `failed-precondition` when the folder cannot be made or written
 */
export function openStore(path: string, metrics?: Metrics): Store {
  makeFolder(path)
  const database = openDatabase(path)
  const commits = createCommits(metrics ? counted(database, metrics) : database)
  if (metrics) describeStore(metrics, path, commits.waiting)
  let current: Map<string, Uint8Array | null> | undefined // the changes of the write that runs now
  let closed = false

  const view = (): View => viewOf(database, current ? [current, ...commits.layers()] : [])
  const change = (key: string, value: Uint8Array | null): void => {
    if (!current) throw new Error('Records change only inside Store.write')
    current.set(key, value)
  }

  async function write<T>(fn: () => T): Promise<T> {
    if (closed) throw new Fault('unavailable', `Cannot write to "${path}": the store is closed`)
    if (current) throw new Error('Store.write cannot be nested')
    const changes = new Map<string, Uint8Array | null>()
    current = changes
    let result: T
    try {
      result = fn()
    } finally {
      current = undefined
    }
    if (result instanceof Promise) throw new Error('The function given to Store.write must be synchronous')
    await commits.add(changes)
    return result
  }

  return {
    table(name, codec) {
      if (!TABLE_NAME.test(name)) throw new Error(`Bad table name "${name}"`)
      return createTable(name, codec, { view, change })
    },
    write,
    async [Symbol.asyncDispose]() {
      if (closed) return
      closed = true
      await commits.idle()
      await database.close()
    },
  }
}

function viewOf(database: Database, layers: View['layers']): View {
  return {
    get(key) {
      for (const layer of layers) {
        const value = layer.get(key)
        if (value !== undefined) return value?.slice() // a copy: what is decoded from it may keep it
      }
      return database.get(key)
    },
    page: database.page,
    layers,
  }
}

/** The same database; its commits are counted. */
function counted(database: Database, metrics: Metrics): Database {
  const help = 'Transactions of the records, from their start until they are on disk.'
  const seconds = metrics.histogram({ name: 'gantry_store_commit_seconds', help, bounds: SECONDS })()
  const about = { name: 'gantry_store_changes_total', help: 'Records that were put or removed.' }
  const changed = metrics.counter(about)()
  return {
    ...database,
    async commit(changes) {
      const from = performance.now()
      await database.commit(changes)
      seconds.observe((performance.now() - from) / 1000)
      changed.add(changes.size)
    },
  }
}

function describeStore(metrics: Metrics, path: string, waiting: () => number): void {
  const queue = { name: 'gantry_store_waiting_writes', help: 'Writes that wait for the next transaction.' }
  metrics.read('gauge', queue, waiting)
  const size = { name: 'gantry_store_size_bytes', help: 'What the records take on disk.' }
  metrics.read('gauge', size, () => statSync(join(path, 'data.mdb')).blocks * BLOCK_BYTES)
}

/** Commits groups of changes one after the other. */
function createCommits(database: Database) {
  let waiting: Group = { changes: new Map(), waiters: [] }
  let flying: Group | undefined
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    await Promise.resolve() // writes of the same tick share a commit
    while (waiting.waiters.length > 0) {
      const group = waiting
      flying = group
      waiting = { changes: new Map(), waiters: [] }
      try {
        if (group.changes.size > 0) await database.commit(group.changes)
        flying = undefined
        for (const waiter of group.waiters) waiter.resolve()
      } catch (error) {
        const failed = [...group.waiters, ...waiting.waiters]
        flying = undefined
        waiting = { changes: new Map(), waiters: [] }
        for (const waiter of failed) waiter.reject(error)
      }
    }
    running = undefined
  }

  return {
    /** Uncommitted changes, newest first. */
    layers: () => (flying ? [waiting.changes, flying.changes] : [waiting.changes]),
    add(changes: ReadonlyMap<string, Uint8Array | null>): Promise<void> {
      for (const [key, value] of changes) waiting.changes.set(key, value)
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      waiting.waiters.push({ resolve, reject })
      running ??= run()
      return promise
    },
    idle: async () => running,
    waiting: () => waiting.waiters.length,
  }
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new Fault('failed-precondition', `Cannot make the folder "${path}": ${reasonOf(error)}`, { cause: error })
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
