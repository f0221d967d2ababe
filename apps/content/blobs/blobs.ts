import { ContentDeleteSchema } from '@gantry/api/containerd/events/content_pb'
import type { Info } from '@gantry/api/containerd/services/content/v1/content_pb'
import { toTimestamp } from '@gantry/model/clock'
import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { fieldsOf, parseFilters } from '@gantry/model/filter'
import { checkLabels, type Labels, withoutEmpty } from '@gantry/model/labels'
import { type MaskPath, updateMap } from '@gantry/model/mask'
import type { Namespace } from '@gantry/model/namespace'
import type { Holder } from '../leases.ts'
import type { Parts } from './ingests.ts'
import { removeBlob } from './rows.ts'

/** The part of a blob to read; sizes in bytes. */
export interface Range<Chunk> {
  readonly offset: bigint
  /** 0 means to the end. */
  readonly size: bigint
  /** Memory for the next data, of which so many bytes are wanted; it may have room for less, or more. */
  readonly into: (wanted: number) => Chunk
}

/** Committed blobs, each namespace's own. A blob that only another namespace has does not exist. */
export interface Blobs {
  /** @throws {Fault} `not-found` */
  info(namespace: Namespace, digest: Digest): Info
  has(namespace: Namespace, digest: Digest): boolean
  /** Ordered by digest. @throws {Fault} `invalid-argument` for a bad filter */
  list(namespace: Namespace, filters: readonly string[]): Iterable<Info>
  /** Sets labels, all of them or single ones. @throws {Fault} `not-found`, `invalid-argument` */
  update(namespace: Namespace, digest: Digest, change: { labels: Labels; paths: readonly MaskPath[] }): Promise<Info>
  /** Changes labels in one transaction by what they are then. @throws {Fault} `not-found`, `invalid-argument` */
  relabel(namespace: Namespace, digest: Digest, change: (labels: Labels) => Labels): Promise<Info>
  /** Takes the name away; the bytes go when nobody has a name for them. @throws {Fault} `not-found` */
  remove(holder: Holder, digest: Digest): Promise<void>
  /** Gives each chunk and the bytes that are in it. @throws {Fault} `not-found`, `out-of-range` when the range starts behind the end */
  read<Chunk extends { readonly data: Uint8Array }>(
    namespace: Namespace,
    digest: Digest,
    range: Range<Chunk>,
  ): AsyncIterable<[chunk: Chunk, length: number]>
  /** @throws {Fault} `not-found` */
  locate(namespace: Namespace, digest: Digest): { path: string; size: bigint }
  /** Those that have blobs, in order. */
  namespaces(): Iterable<string>
}

export function createBlobs({ rows, folder, changes, leases, now }: Parts): Blobs {
  function info(namespace: Namespace, digest: Digest): Info {
    const found = rows.blobs.get([namespace, digest])
    if (!found) throw new Fault('not-found', `content ${digest}: not found`)
    return found
  }

  function relabel(namespace: Namespace, digest: Digest, change: (labels: Labels) => Labels): Promise<Info> {
    return changes.write(() => {
      const old = info(namespace, digest)
      const labels = change(old.labels)
      checkLabels(labels)
      const next = { ...old, labels: withoutEmpty(labels) }
      Object.assign(next, { updatedAt: { ...old.updatedAt, ...toTimestamp(now()) } })
      rows.blobs.put([namespace, digest], next)
      return next
    })
  }

  return {
    info,
    relabel,
    has: (namespace, digest) => rows.blobs.has([namespace, digest]),
    *list(namespace, filters) {
      const wanted = parseFilters(filters)
      for (const { value } of rows.blobs.list({ prefix: [namespace] }))
        if (wanted(fieldsOf({ digest: value.digest, labels: value.labels }))) yield value
    },
    update(namespace, digest, { labels, paths }) {
      const all = paths.length > 0 ? paths : [{ field: 'labels' }]
      return relabel(namespace, digest, (old) => all.reduce((at, path) => updateMap(at, labels, path), old))
    },
    async remove(holder, digest) {
      await changes.write((emit) => {
        info(holder.namespace, digest)
        removeBlob(rows, holder.namespace, digest)
        emit(holder.namespace, '/content/delete', ContentDeleteSchema, { digest })
      })
      await leases.remove(holder, { content: digest })
    },
    async *read(namespace, digest, range) {
      const { size } = info(namespace, digest)
      const start = range.offset < 0n ? 0n : range.offset
      if (start > size) throw new Fault('out-of-range', `Cannot read ${digest} at ${start}: it has ${size} bytes`)
      const end = range.size > 0n && start + range.size < size ? start + range.size : size
      await using file = await folder.openBlob(digest)
      if (!file) throw new Fault('not-found', `content ${digest}: its bytes are gone`)
      for (let at = Number(start); at < Number(end); ) {
        const wanted = Number(end) - at
        const chunk = range.into(wanted)
        const { bytesRead } = await file.read(chunk.data, 0, Math.min(wanted, chunk.data.length), at)
        if (bytesRead === 0) throw new Fault('data-loss', `Cannot read ${digest} at ${at}: the file ends there`)
        yield [chunk, bytesRead]
        at += bytesRead
      }
    },
    locate(namespace, digest) {
      const { size } = info(namespace, digest)
      return { path: folder.blobPath(digest), size }
    },
    namespaces: () => rows.blobs.parts([]),
  }
}
