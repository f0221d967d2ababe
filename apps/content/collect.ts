import type { Info } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Collection } from '@gantry/api/gantry/collection/v1/collection_pb'
import { type Digest, parseDigest } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { type Binding, bind } from '@gantry/rpc/service'
import { type Barrier, createBarrier } from '@gantry/service/barrier'
import type { Changes } from '@gantry/service/changes'
import {
  collectionService,
  type Keeper,
  localParty,
  type Node,
  nodeOf,
  type ThingName,
} from '@gantry/service/collection'
import { createBytes } from './blobs/bytes.ts'
import type { Folder } from './blobs/folder.ts'
import type { Ingests } from './blobs/ingests.ts'
import { type Ingest, type Rows, removeBlob } from './blobs/rows.ts'
import { createKeptStreams } from './streaming/kept-streams.ts'
import type { Streams } from './streaming/streams.ts'

/** What the rest of the process works with, so that a collection sees what it does and can hold it back for a moment. */
export interface ContentCollection {
  readonly rows: Rows
  readonly changes: Pick<Changes, 'write'>
  keeper(uses: Uses): Keeper
  /** gantry.collection.v1.Collection */
  binding(uses: Uses): Binding
}

/** What is in use now, though no record tells. */
export interface Uses {
  /** Is a writer at the upload? */
  readonly isBusy: Ingests['isBusy']
  readonly streams: Pick<Streams, 'all'>
}

/** Also looks for bytes that a crash left without a name: they go with the next collection. */
export function openCollection(parts: Pick<KeeperParts, 'rows' | 'changes' | 'folder'>): ContentCollection {
  const barrier = createBarrier(parts.changes)
  const doomed = new Set<Digest>()
  const orphans = doomOrphans({ ...parts, doomed })
  orphans.catch(() => undefined) // heard by the collection
  const keeper = (uses: Uses): Keeper => createContentKeeper({ ...parts, ...uses, doomed, orphans })
  return {
    rows: watchRows(parts.rows, barrier, doomed),
    changes: barrier.changes,
    keeper,
    binding: (uses) => bind(Collection, collectionService(localParty(barrier, keeper(uses)))),
  }
}

/** The rows, with what is written noted for the collection that runs, and blobs that lost a holder for `doomed`. */
function watchRows(rows: Rows, barrier: Barrier, doomed: Set<Digest>): Rows {
  const { holders } = rows
  return {
    ...rows,
    blobs: barrier.watch(rows.blobs, ([namespace = '', id = '']) => ({ namespace, kind: 'content', id })),
    ingests: barrier.watch(rows.ingests, ([namespace = '', id = '']) => ({ namespace, kind: 'ingests', id })),
    holders: {
      ...holders,
      remove(key) {
        doomed.add(parseDigest(key[0] ?? ''))
        holders.remove(key)
      },
    },
  }
}

interface KeeperParts extends Uses {
  readonly rows: Rows
  readonly folder: Folder
  /** Not those that a pause holds back. */
  readonly changes: Pick<Changes, 'write'>
  /** Blobs whose bytes may have lost their last holder. */
  readonly doomed: Set<Digest>
  /** Resolves when those that a crash left are among them. */
  readonly orphans: Promise<void>
}

/** What content keeps, as the collection sees it: blobs, uploads that somebody may go on with, and streams that are open. */
function createContentKeeper({ rows, folder, changes, ...parts }: KeeperParts): Keeper {
  const { isBusy, doomed, orphans } = parts
  const open = createKeptStreams(parts.streams)
  const bytes = createBytes({ rows, folder })
  const gone = new Set<string>() // folders of uploads without a name

  function ingestNode(namespace: string, ref: string, { shared, expiresAtMs }: Ingest): Node {
    const refs = shared === undefined ? [] : [{ kind: 'content', id: shared }]
    const thing = { namespace, kind: 'ingests', id: ref }
    if (isBusy(parseNamespace(namespace), ref)) return nodeOf(thing, { labels: {}, refs, root: 'upload' })
    const until = expiresAtMs === undefined ? {} : { root: 'unfinished upload', rootUntilMs: expiresAtMs } // else a lease
    return nodeOf(thing, { labels: {}, refs, ...until })
  }

  return {
    *nodes() {
      for (const { key, value } of rows.blobs.list()) yield blobNode(key[0] ?? '', value)
      for (const { key, value } of rows.ingests.list()) yield ingestNode(key[0] ?? '', key[1] ?? '', value)
      yield* open.nodes()
    },

    node({ namespace, kind, id }) {
      const blob = kind === 'content' ? rows.blobs.get([namespace, id]) : undefined
      const ingest = kind === 'ingests' ? rows.ingests.get([namespace, id]) : undefined
      if (blob) return blobNode(namespace, blob)
      return ingest && ingestNode(namespace, id, ingest)
    },

    inUse: () => [],

    sweep: (things) =>
      changes.write(() => {
        const swept = things.filter(drop)
        return swept.length
      }, 'stored'),

    /** A name that is gone on disk comes first: only then do the bytes go. */
    async clean() {
      await orphans
      const digests = [...doomed]
      const folders = [...gone]
      await changes.write(() => undefined) // behind all that took them their names
      for (const digest of digests) {
        doomed.delete(digest) // before: it may lose its last holder again meanwhile
        try {
          if ((await bytes.drop(digest)) === 'claimed') doomed.add(digest)
        } catch (error) {
          doomed.add(digest)
          throw error
        }
      }
      const named = new Set(Array.from(rows.ingests.list(), ({ value }) => value.id))
      for (const id of folders) {
        if (!named.has(id)) await folder.dropIngest(id) // else it could not be recorded that it goes
        gone.delete(id)
      }
    },
  }

  function drop(thing: ThingName): boolean {
    if (thing.kind === 'streams') return open.end(thing)
    return thing.kind === 'ingests' ? dropIngest(thing) : dropBlob(thing)
  }

  function dropBlob({ namespace, id }: ThingName): boolean {
    if (!rows.blobs.has([namespace, id])) return false
    removeBlob(rows, namespace, parseDigest(id))
    doomed.add(parseDigest(id))
    return true
  }

  function dropIngest({ namespace, id }: ThingName): boolean {
    const ingest = rows.ingests.get([namespace, id])
    if (!ingest || isBusy(parseNamespace(namespace), id)) return false
    rows.ingests.remove([namespace, id])
    gone.add(ingest.id)
    if (ingest.shared) doomed.add(ingest.shared)
    return true
  }
}

function blobNode(namespace: string, { digest, labels, size }: Info): Node {
  return nodeOf({ namespace, kind: 'content', id: digest }, { labels, size })
}

/** Dooms the bytes that a crash left without a name. */
async function doomOrphans({ rows, folder, doomed }: Pick<KeeperParts, 'rows' | 'folder' | 'doomed'>): Promise<void> {
  const bytes = createBytes({ rows, folder })
  for await (const digest of bytes.unnamed()) if (!(await bytes.isAwaited(digest))) doomed.add(digest)
}
