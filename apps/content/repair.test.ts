import { existsSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test } from 'vitest'
import { createRepair } from './repair.ts'
import { openTestParts, type TestParts } from './testing/parts.ts'

const A = parseNamespace('a')
const LIMIT_MS = 60_000 // the machine may be busy
const signal = AbortSignal.timeout(LIMIT_MS)

async function commit(parts: TestParts, text: string) {
  const bytes = Buffer.from(text)
  const digest = sha256Of(bytes)
  const writer = await parts.ingests.open(
    { namespace: A, lease: undefined, ref: text, expected: digest, total: BigInt(bytes.length) },
    signal,
  )
  await writer.append(bytes)
  await writer.commit({ total: 0n, expected: digest, labels: {} }, signal)
  return digest
}

const repaired = (parts: TestParts, dryRun = false) => Array.fromAsync(createRepair(parts)(dryRun, signal))

test('what the disk has and no record knows is told, and then removed; the rest stays', {
  timeout: LIMIT_MS,
}, async () => {
  await using parts = await openTestParts()
  const kept = await commit(parts, 'kept')
  const upload = await parts.ingests.open(
    { namespace: A, lease: undefined, ref: 'going on', expected: undefined, total: 100n },
    signal,
  )
  const stray = parts.folder.blobPath(sha256Of('nobody knows this'))
  const lost = parts.folder.ingestFolder('lost')
  const junk = join(parts.folder.root, 'blobs', 'sha256', 'notes.txt')
  writeFileSync(stray, 'nobody knows this')
  mkdirSync(lost)
  writeFileSync(join(lost, 'data'), '1234')
  writeFileSync(junk, '')
  const link = join(parts.folder.root, 'blobs', 'link')
  symlinkSync('nowhere', link)
  const folder = parts.folder.blobPath(sha256Of('no file at all'))
  mkdirSync(folder)
  const unnamed = [stray, folder].sort().map((of) => ({ what: 'A blob without a record', of }))
  const all = [
    { what: 'Something that is no blob', of: link },
    { what: 'Something that is no blob', of: junk },
    ...unnamed,
    { what: 'An upload without a record', of: lost },
  ]

  expect(await repaired(parts, true)).toEqual(all)
  expect([stray, folder, lost, junk].every(existsSync)).toBe(true)
  expect(await repaired(parts)).toEqual(all)

  expect([stray, folder, lost, junk].some(existsSync)).toBe(false)
  expect(await repaired(parts)).toEqual([])
  expect(existsSync(parts.folder.blobPath(kept))).toBe(true)
  await upload.append(Buffer.from('more'))
  await upload.discard()
})

test('a blob whose bytes are gone or cut short is told with what to do, and left', { timeout: LIMIT_MS }, async () => {
  await using parts = await openTestParts()
  const [gone, short] = [await commit(parts, 'gone'), await commit(parts, 'short')]
  rmSync(parts.folder.blobPath(gone))
  truncateSync(parts.folder.blobPath(short), 2)

  const found = await repaired(parts)

  expect(found.map(({ what, of, advice }) => [what, of, advice?.includes('content verify')])).toEqual(
    [
      ['A blob whose bytes are gone', `${gone} of a`, true],
      ['A blob of 5 bytes that has 2', `${short} of a`, true],
    ].sort(([, one = ''], [, other = '']) => (String(one) < String(other) ? -1 : 1)),
  )
  expect(parts.blobs.has(A, gone)).toBe(true)
})

test(
  'uploads, commits and removals beside it lose nothing',
  async () => {
    await using parts = await openTestParts()
    const digests: string[] = []
    const working = (async () => {
      for (let round = 0; round < 20; round++) {
        const digest = await commit(parts, `round ${round}`)
        if (round % 3 === 0) await parts.blobs.remove({ namespace: A, lease: undefined }, digest)
        else digests.push(parts.folder.blobPath(digest))
      }
      return true
    })()
    let over = false
    const ended = working.finally(() => {
      over = true
    })

    while (!over) for (const { advice } of await repaired(parts)) expect(advice).toBeUndefined()
    await ended

    await repaired(parts)
    expect(digests.filter((path) => !existsSync(path))).toEqual([])
    expect(await repaired(parts)).toEqual([])
  },
  LIMIT_MS,
)
