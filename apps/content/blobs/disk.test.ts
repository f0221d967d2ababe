import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseNamespace } from '@gantry/model/namespace'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTestParts, type TestParts } from '../testing/parts.ts'
import { openFolder } from './folder.ts'
import { createIngests, type Ingests } from './ingests.ts'

const NS = parseNamespace('default')
const signal = new AbortController().signal
const canMount = process.getuid?.() === 0 && spawnSync('mount', ['--version']).status === 0
let parts: TestParts
let disk: string
let ingests: Ingests

beforeEach(async () => {
  parts = await openTestParts()
  disk = join(parts.root, 'disk')
  mkdirSync(disk)
  if (canMount) spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk])
  ingests = createIngests({ ...parts, folder: openFolder(disk) })
})
afterEach(async () => {
  if (canMount) spawnSync('umount', ['-l', disk])
  await parts[Symbol.asyncDispose]()
})

const opening = { namespace: NS, lease: undefined, ref: 'a', expected: undefined, total: 0n }

test.skipIf(!canMount)(
  'a full disk is said to be full, names the folder, and the ingest goes on once there is room',
  async () => {
    await using writer = await ingests.open(opening, signal)
    await writer.append(Buffer.alloc(100_000))

    await expect(writer.append(Buffer.alloc(300_000))).rejects.toMatchObject({
      code: 'resource-exhausted',
      message: expect.stringContaining(disk),
    })

    expect(writer.status().offset).toBe(100_000n)
    await writer.append(Buffer.alloc(50_000))
    await writer.commit({ total: 150_000n, expected: undefined, labels: {} }, signal)
  },
)

test.skipIf(!canMount)('a read-only disk is said to be read-only, and nothing half-made is seen', async () => {
  spawnSync('mount', ['-o', 'remount,ro', disk])

  await expect(ingests.open(opening, signal)).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(/disk.*read-only/),
  })

  await expect(ingests.status(NS, 'a')).rejects.toThrow('not found')
  expect(await readdir(join(disk, 'ingest'))).toEqual([])
})
