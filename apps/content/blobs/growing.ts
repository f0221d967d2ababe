import type { Digest } from '@gantry/model/digest'
import type { Namespace } from '@gantry/model/namespace'
import { abortable } from '@gantry/service/abortable'

/** How far a blob is that a namespace is being brought. A new object with every change. */
export interface Growth {
  /** The file, once there is one. It gets another name when the blob is complete, so open it before it is. */
  readonly path: string | undefined
  /** Bytes that are in the file from its start on, without a gap; not proven yet. */
  readonly bytes: bigint
  /** Bytes of one attempt may differ from those of another: what was read of an earlier one counts no more. */
  readonly attempt: number
}

/** Blobs on their way, for those in this process who want their bytes before all of them are here. */
export interface Growing {
  /**
   * Announces a blob. When it is disposed the blob is there, or it failed; several may bring the same one, and it grows
   * until the last of them is disposed.
   */
  expect(namespace: Namespace, digest: Digest): Grower
  /** How far a blob is now; undefined when nobody brings it. */
  find(namespace: Namespace, digest: Digest): Growth | undefined
  /**
   * Waits until a blob is further than `seen`, which came from here; at once when it is. Undefined when nobody brings it
   * any more: then it is there, or it failed.
   *
   * @throws the reason of the signal
   */
  next(namespace: Namespace, digest: Digest, seen: Growth | undefined, signal: AbortSignal): Promise<Growth | undefined>
}

export interface Grower extends Disposable {
  /** There are so many bytes now in the file at `path`. */
  grown(path: string, bytes: bigint): void
  /** What has come counts no more. */
  restart(): void
}

interface Entry {
  growth: Growth
  users: number
  /** Made for those who wait, resolved by the next change. */
  changed: PromiseWithResolvers<void> | undefined
}

export function createGrowing(): Growing {
  const entries = new Map<string, Entry>()
  const find = (namespace: Namespace, digest: Digest): Entry | undefined => entries.get(`${namespace}/${digest}`)

  return {
    expect(namespace, digest) {
      const key = `${namespace}/${digest}`
      const entry = entries.get(key) ?? {
        ...{ growth: { path: undefined, bytes: 0n, attempt: 0 }, users: 0, changed: undefined },
      }
      entries.set(key, entry)
      entry.users++
      const change = (growth: Growth): void => {
        entry.growth = growth
        tell(entry)
      }
      return {
        grown(path, bytes) {
          const { growth } = entry
          if (growth.path !== path || growth.bytes !== bytes) change({ path, bytes, attempt: growth.attempt })
        },
        restart: () => change({ path: undefined, bytes: 0n, attempt: entry.growth.attempt + 1 }),
        [Symbol.dispose]() {
          if (--entry.users > 0) return
          entries.delete(key)
          tell(entry)
        },
      }
    },
    find: (namespace, digest) => find(namespace, digest)?.growth,
    async next(namespace, digest, seen, signal) {
      for (;;) {
        signal.throwIfAborted()
        const entry = find(namespace, digest)
        if (!entry || entry.growth !== seen) return entry?.growth
        entry.changed ??= Promise.withResolvers()
        await abortable(entry.changed.promise, signal)
      }
    },
  }
}

function tell(entry: Entry): void {
  entry.changed?.resolve()
  entry.changed = undefined
}
