import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { setImmediate as breathe } from 'node:timers/promises'
import { type Digest, parseDigest } from '@gantry/model/digest'
import type { Difference, Repair } from '@gantry/service/repair'
import { createBytes } from './blobs/bytes.ts'
import type { Folder } from './blobs/folder.ts'
import { holdersOf, type Rows } from './blobs/rows.ts'

const STEP = 100 // records between two turns of others

interface RepairParts {
  readonly rows: Rows
  readonly folder: Folder
}

/**
 * Compares the records with `content/blobs` and `content/ingest`. What is looked at may change meanwhile, so each thing is
 * looked at once more before anything is said or done, and then without a pause.
 */
export function createRepair(parts: RepairParts): Repair {
  return async function* repair(dryRun, signal) {
    yield* strays(parts, dryRun)
    yield* unnamedBytes(parts, { dryRun, signal })
    yield* lostUploads(parts, dryRun)
    yield* blobsWithoutBytes(parts, signal)
  }
}

async function* strays({ folder }: RepairParts, dryRun: boolean): AsyncGenerator<Difference> {
  for (const path of await folder.strays()) {
    if (!dryRun) await rm(path, { recursive: true, force: true })
    yield { what: 'Something that is no blob', of: path }
  }
}

async function* unnamedBytes(
  { rows, folder }: RepairParts,
  { dryRun, signal }: { dryRun: boolean; signal: AbortSignal },
): AsyncGenerator<Difference> {
  const bytes = createBytes({ rows, folder })
  for await (const digest of bytes.unnamed()) {
    signal.throwIfAborted()
    if (await bytes.isAwaited(digest)) continue
    const isNamed = dryRun ? bytes.isKept(digest) || folder.isClaimed(digest) : (await bytes.drop(digest)) !== 'gone'
    if (!isNamed) yield { what: 'A blob without a record', of: folder.blobPath(digest) }
  }
}

/** Folders are listed first: a record that comes later belongs to one that was not listed, or that is being made. */
async function* lostUploads({ rows, folder }: RepairParts, dryRun: boolean): AsyncGenerator<Difference> {
  const found = await folder.ingests()
  const known = new Set(Array.from(rows.ingests.list(), ({ value }) => value.id))
  for (const id of found) {
    if (known.has(id) || folder.isOpened(id)) continue
    const path = folder.ingestFolder(id)
    if (!existsSync(path)) continue // it was dropped meanwhile
    if (!dryRun) await folder.dropIngest(id)
    yield { what: 'An upload without a record', of: path }
  }
}

async function* blobsWithoutBytes({ rows, folder }: RepairParts, signal: AbortSignal): AsyncGenerator<Difference> {
  let seen = 0
  let last = ''
  for (const { key } of rows.holders.list()) {
    const [text = '', namespace = ''] = key
    if (text === last) continue
    last = text
    if (++seen % STEP === 0) await breathe()
    signal.throwIfAborted()
    const problem = await problemOf(parseDigest(text), namespace, { rows, folder })
    if (problem !== undefined) yield problem
  }
}

async function problemOf(
  digest: Digest,
  namespace: string,
  { rows, folder }: RepairParts,
): Promise<Difference | undefined> {
  const size = await folder.blobSize(digest)
  const wanted = rows.blobs.get([namespace, digest])?.size
  if (wanted === undefined || size === wanted) return undefined
  const of = `${digest} of ${[...holdersOf(rows, digest)].join(', ')}`
  const advice = `run "gantry content verify ${digest}", which takes the record away, and pull its image again`
  if (size === undefined) return { what: 'A blob whose bytes are gone', of, advice }
  return { what: `A blob of ${wanted} bytes that has ${size}`, of, advice }
}
