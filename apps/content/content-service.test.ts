import { join } from 'node:path'
import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  Content,
  WriteAction,
  type WriteContentRequestSchema,
} from '@gantry/api/containerd/services/content/v1/content_pb'
import { sha256Of } from '@gantry/model/digest'
import { type Client, clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { contentService } from './content-service.ts'
import { openTestParts, type TestParts } from './testing/parts.ts'

type Message = MessageInitShape<typeof WriteContentRequestSchema>

const silent = { error: () => undefined, debug: () => undefined }
let parts: TestParts
let stack: AsyncDisposableStack
let client: Client<typeof Content>

beforeEach(async () => {
  parts = await openTestParts()
  const address = join(parts.root, 's')
  stack = new AsyncDisposableStack()
  stack.use(parts)
  stack.use(await listen({ address, bindings: [bind(Content, contentService(parts))], log: silent }))
  client = clientOf(Content, stack.use(connect(address)))
})
afterEach(() => stack.disposeAsync())

const options = (signal: AbortSignal = AbortSignal.timeout(5000)) => ({ namespace: 'default', signal })

async function* upload(ref: string, data: Buffer, chunk = 1_000_000): AsyncGenerator<Message> {
  yield { action: WriteAction.STAT, ref }
  for (let at = 0; at < data.length; at += chunk)
    yield { action: WriteAction.WRITE, offset: BigInt(at), data: data.subarray(at, at + chunk) }
  yield {
    action: WriteAction.COMMIT,
    offset: BigInt(data.length),
    total: BigInt(data.length),
    expected: sha256Of(data),
  }
}

test('what is written over the wire is read back, and every message is answered once, the last one twice', async () => {
  const data = Buffer.alloc(3_500_000, 'gantry')

  const replies = await Array.fromAsync(client.write(upload('a', data), options()))
  expect(replies.map(({ action, offset }) => [action, Number(offset)])).toEqual([
    [WriteAction.STAT, 0],
    [WriteAction.WRITE, 1_000_000],
    [WriteAction.WRITE, 2_000_000],
    [WriteAction.WRITE, 3_000_000],
    [WriteAction.WRITE, 3_500_000],
    [WriteAction.COMMIT, 3_500_000],
    [WriteAction.COMMIT, 3_500_000],
  ])

  const messages = await Array.fromAsync(client.read({ digest: sha256Of(data) }, options()))
  expect(Buffer.concat(messages.map((message) => message.data)).equals(data)).toBe(true)
  expect(messages[0]?.offset).toBe(0n)
  const part = await Array.fromAsync(client.read({ digest: sha256Of(data), offset: 1_000_000n, size: 10n }, options()))
  expect(part.map(({ offset, data }) => [offset, data.length])).toEqual([[0n, 10]])
})

test('a client that hangs up in the middle lets go of the ref and finds its bytes again', async () => {
  const hangup = new AbortController()
  async function* half(): AsyncGenerator<Message> {
    yield { action: WriteAction.STAT, ref: 'a' }
    yield { action: WriteAction.WRITE, data: Buffer.from('hello') }
    await new Promise(() => undefined)
  }
  await expect(async () => {
    for await (const reply of client.write(half(), options(hangup.signal))) if (reply.offset === 5n) hangup.abort()
  }).rejects.toMatchObject({ code: 'cancelled' })

  await expect
    .poll(async () => {
      async function* stat(): AsyncGenerator<Message> {
        yield { action: WriteAction.STAT, ref: 'a' }
      }
      return Array.fromAsync(client.write(stat(), options())).then(
        (replies) => replies.map(({ offset, digest }) => [Number(offset), digest]),
        () => undefined,
      )
    })
    .toEqual([
      [5, sha256Of('hello')],
      [5, sha256Of('hello')],
    ])
})

test('infos come in batches of a hundred, and nothing comes of nothing', async () => {
  expect(await Array.fromAsync(client.list({}, options()))).toEqual([])
  await Promise.all(
    Array.from({ length: 130 }, (_, n) =>
      Array.fromAsync(client.write(upload(`${n}`, Buffer.from(`blob ${n}`)), options())),
    ),
  )

  const messages = await Array.fromAsync(client.list({}, options()))

  expect(messages.map(({ info }) => info.length)).toEqual([100, 30])
})

test('ingests are listed by ref and gone once aborted', async () => {
  async function* start(ref: string): AsyncGenerator<Message> {
    yield { action: WriteAction.WRITE, ref, data: Buffer.from(ref), total: 100n }
  }
  for (const ref of ['layer-a', 'layer-b', 'config-c']) await Array.fromAsync(client.write(start(ref), options()))

  const { statuses } = await client.listStatuses({ filters: ['ref~=^layer-'] }, options())
  expect(statuses.map(({ ref, offset, total }) => [ref, offset, total])).toEqual([
    ['layer-a', 7n, 100n],
    ['layer-b', 7n, 100n],
  ])
  await client.abort({ ref: 'layer-a' }, options())
  await expect(client.status({ ref: 'layer-a' }, options())).rejects.toMatchObject({ code: 'not-found' })
  await expect(client.abort({ ref: 'layer-a' }, options())).rejects.toMatchObject({ code: 'not-found' })
})

test.each([
  ['a malformed digest', () => client.info({ digest: 'md5:x' }, options()), 'invalid-argument'],
  ['an unknown digest', () => client.info({ digest: sha256Of('?') }, options()), 'not-found'],
  ['no namespace', () => client.info({ digest: sha256Of('?') }, { signal: options().signal }), 'failed-precondition'],
  [
    'a field that cannot be updated',
    () => client.update({ info: { digest: sha256Of('?') }, updateMask: { paths: ['size'] } }, options()),
    'invalid-argument',
  ],
  ['a bad filter', () => Array.fromAsync(client.list({ filters: ['=='] }, options())), 'invalid-argument'],
])('%s is refused', async (_, call, code) => {
  await expect(call()).rejects.toMatchObject({ code })
})
