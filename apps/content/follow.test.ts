import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Blobs } from '@gantry/api/gantry/content/v1/blobs_pb'
import { type Digest, sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { type Client, clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { blobsService } from './owner-service.ts'
import { openTestParts, type TestParts } from './testing/parts.ts'
import { createScrub } from './verify/scrub.ts'

const NS = parseNamespace('default')
const MIB = 1024n * 1024n
const signal = AbortSignal.timeout(10_000)
const BYTES = Buffer.from('some bytes')
const digest = sha256Of(BYTES)
let stack: AsyncDisposableStack
let parts: TestParts
let blobs: Client<typeof Blobs>

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  parts = stack.use(await openTestParts())
  const address = join(parts.root, 's')
  const bindings = [bind(Blobs, blobsService(parts.blobs, parts.growing, createScrub(parts)))]
  const log = { error: () => undefined, debug: () => undefined }
  stack.use(await listen({ address, bindings, log }))
  blobs = clientOf(Blobs, stack.use(connect(address)))
})
afterEach(() => stack.disposeAsync())

async function put(): Promise<Digest> {
  const opening = { namespace: NS, lease: undefined, ref: 'some', expected: undefined, total: 0n }
  await using writer = await parts.ingests.open(opening, signal)
  await writer.append(BYTES)
  return await writer.commit({ total: 0n, expected: undefined, labels: {} }, signal)
}

function follow() {
  const messages = blobs.follow({ digest }, { namespace: NS, signal })[Symbol.asyncIterator]()
  return async () => {
    const { value } = await messages.next()
    return value && { path: value.path, bytes: value.bytes, done: value.done }
  }
}

test('a blob that is there is done at once', async () => {
  await put()
  const next = follow()

  expect(await next()).toEqual({ path: parts.folder.blobPath(digest), bytes: 10n, done: true })
  expect(await next()).toBeUndefined()
})

test('a blob on its way is told of in steps, and is done when the namespace has it', async () => {
  const path = join(parts.root, 'growing')
  writeFileSync(path, '')
  const grower = parts.growing.expect(NS, digest)
  const next = follow()

  grower.grown(path, 1n)
  expect(await next()).toEqual({ path, bytes: 1n, done: false })
  grower.grown(path, 2n)
  grower.grown(path, 3n * MIB)
  expect(await next()).toEqual({ path, bytes: 3n * MIB, done: false })
  await put()
  grower[Symbol.dispose]()
  expect(await next()).toMatchObject({ bytes: 10n, done: true })
})

test('nobody brings it, or not any more: that is told', async () => {
  await expect(follow()()).rejects.toMatchObject({ code: 'not-found' })

  const grower = parts.growing.expect(NS, digest)
  const next = follow()
  grower.grown('/some/where', 1n)
  await next()
  grower[Symbol.dispose]()

  await expect(next()).rejects.toMatchObject({ code: 'aborted', message: expect.stringContaining('Cannot follow') })
})
