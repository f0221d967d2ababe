import { createHash } from 'node:crypto'
import { type Digest, digestParts, parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Parts } from '../blobs/ingests.ts'
import { holdersOf } from '../blobs/rows.ts'
import { createPace, type Pace } from './pace.ts'
import { createQuarantine, type Quarantine } from './quarantine.ts'

const CHUNK = 512 * 1024 // bytes hashed at once
const REPORT_MS = 1000 // between two reports on one large blob
const DEFAULT_RATE = 256n * 1024n * 1024n // bytes per second, so that pulls and reads get their share

/** What became of one blob, or how far the whole is while one is not done. */
export interface Checked {
  readonly digest: Digest
  readonly outcome: 'running' | 'sound' | 'quarantined' | 'missing'
  /** Why it is not sound. */
  readonly reason: string
  /** Where rotten bytes are now. */
  readonly path: string
  /** Who had the blob that was taken away. */
  readonly namespaces: readonly string[]
  readonly bytesDone: bigint
  readonly bytesTotal: bigint
}

/** Finds blobs whose bytes are not what they were. */
export interface Scrub {
  /**
   * Hashes blobs of all namespaces again, and those on disk that no namespace has: all, or only these. What rotted is
   * moved aside and what is missing is no longer listed, so that a repeated pull brings it. Stops where it is when the
   * consumer stops.
   *
   * @param bytesPerSecond 0 means 256 MiB
   * @throws {Fault} `not-found` for a digest nobody has, before anything is read; `unavailable` while another one runs
   */
  run(wish: { digests: readonly Digest[]; bytesPerSecond: bigint }, signal: AbortSignal): AsyncIterable<Checked>
  /** Finishes what an earlier process was killed in, or leaves it to the next one when told to stop. Before anybody is served. */
  resume(signal: AbortSignal): Promise<void>
}

export function createScrub(parts: Parts): Scrub {
  const quarantine = createQuarantine(parts)
  let busy = false

  async function* runAll(list: readonly Listed[], pace: Pace): AsyncGenerator<Checked> {
    const bytesTotal = list.reduce((sum, { size }) => sum + size, 0n)
    let before = 0n
    for (const { digest, size } of list) {
      for await (const { read = 0n, ...found } of check({ ...parts, quarantine, pace }, digest))
        yield { ...SOUND, ...found, digest, bytesDone: before + read, bytesTotal }
      before += size
    }
  }

  return {
    async *run({ digests, bytesPerSecond }, signal) {
      if (busy) throw new Fault('unavailable', 'Cannot verify content: another verification is running')
      busy = true
      try {
        const list = await (digests.length > 0 ? listThese(parts, digests) : listAll(parts))
        yield* runAll(list, createPace(bytesPerSecond > 0n ? bytesPerSecond : DEFAULT_RATE, signal))
      } finally {
        busy = false
      }
    },
    async resume(signal) {
      const list = quarantine.unsettled().map((digest) => ({ digest, size: 0n }))
      try {
        for await (const _ of runAll(list, createPace(0n, signal)));
      } catch (error) {
        if (!signal.aborted) throw error
      }
    },
  }
}

interface Listed {
  readonly digest: Digest
  readonly size: bigint
}

async function listThese(parts: Parts, digests: readonly Digest[]): Promise<Listed[]> {
  return await Promise.all(
    [...new Set(digests)].map(async (digest) => {
      const size = await parts.folder.blobSize(digest)
      if (size === undefined && holdersOf(parts.rows, digest).next().done)
        throw new Fault('not-found', `content ${digest}: not found`)
      return { digest, size: size ?? 0n }
    }),
  )
}

/** What namespaces have, and what only lies on disk: also that may be taken for the blob one day. */
async function listAll({ rows, folder }: Parts): Promise<Listed[]> {
  const digests = new Set(await folder.blobs())
  for (const { key } of rows.holders.list()) digests.add(parseDigest(key[0] ?? ''))
  const list = [...digests].sort()
  return await Promise.all(list.map(async (digest) => ({ digest, size: (await folder.blobSize(digest)) ?? 0n })))
}

type Finding = Partial<Pick<Checked, 'outcome' | 'reason' | 'path' | 'namespaces'>> & { readonly read?: bigint }

const SOUND = { outcome: 'sound', reason: '', path: '', namespaces: [] } as const

interface Checking extends Parts {
  readonly quarantine: Quarantine
  readonly pace: Pace
}

/** One blob; the last finding is the verdict. A blob that was deleted meanwhile has none. */
async function* check({ rows, folder, quarantine, pace }: Checking, digest: Digest): AsyncGenerator<Finding> {
  await using file = await folder.openBlob(digest)
  if (!file) {
    const namespaces = await quarantine.settle(digest)
    if (namespaces.length > 0) yield { outcome: 'missing', reason: 'there is no file', namespaces }
    return
  }
  const { size, ino } = await file.stat({ bigint: true })
  const hash = createHash(digestParts(digest).algorithm)
  const buffer = Buffer.allocUnsafeSlow(CHUNK)
  let [read, reason, reportedAt] = [0n, '', performance.now()]
  try {
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK)
      if (bytesRead === 0) break
      hash.update(buffer.subarray(0, bytesRead))
      read += BigInt(bytesRead)
      await pace(bytesRead)
      if (performance.now() - reportedAt < REPORT_MS) continue
      reportedAt = performance.now()
      yield { outcome: 'running', read }
    }
    const actual = `${digestParts(digest).algorithm}:${hash.digest('hex')}`
    if (actual !== digest) reason = `its ${size} bytes hash to ${actual}`
  } catch (error) {
    if (!isDiskError(error)) throw error
    reason = 'the disk cannot read it'
  }
  if (reason !== '') {
    const namespaces = await quarantine.take(digest, ino)
    yield { outcome: 'quarantined', reason, namespaces, path: quarantine.pathOf(digest), read: size }
    return
  }
  if (rows.condemned.has([digest])) await quarantine.settle(digest) // the bytes are sound: nothing is taken away
  yield { read: size }
}

function isDiskError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'EIO' || error.code === 'EUCLEAN')
}
