import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import {
  AuthRequestSchema,
  AuthResponseSchema,
  AuthType,
  OCIRegistrySchema,
} from '@gantry/api/containerd/types/transfer/registry_pb'
import { expect, test } from 'vitest'
import type { AnyInit, Stream } from '../streaming/streams.ts'
import { type Caller, sourceOf } from './sources.ts'
import { createServiceWallet } from './wallet.ts'

const NODE = { username: 'node', secret: 'of-the-node', from: 'a file' }
const signal = AbortSignal.timeout(120_000)
const own = { host: 'reg', own: true }
const mirror = { host: 'mirror', own: false }
const answer = (init: MessageInitShape<typeof AuthResponseSchema>): AnyInit => ({
  typeUrl: `type.googleapis.com/${AuthResponseSchema.typeName}`,
  value: toBinary(AuthResponseSchema, create(AuthResponseSchema, init)),
})

/** A client that gives these answers, one after the other. */
function open(answers: readonly AnyInit[], { caller = 'free' as Caller, hostDir = '/d' } = {}) {
  const asked: unknown[] = []
  async function* received(): AsyncGenerator<Any> {
    for (const any of answers) yield { $typeName: 'google.protobuf.Any', ...any }
  }
  const stream: Stream = {
    send: async ({ value }: AnyInit) => {
      const { host, reference } = fromBinary(AuthRequestSchema, value)
      asked.push({ host, reference })
    },
    received: received(),
    close: () => undefined,
  }
  const service = createServiceWallet(async () => NODE, Date.now)
  const registry = create(OCIRegistrySchema, {
    reference: 'reg/app:1',
    resolver: { authStream: 'creds', hostDir },
  })
  const source = sourceOf(registry, () => stream, { service, caller })
  return { asked, source, wallet: source.wallet ?? service }
}

test('a client is asked once, and for the host of the reference only', async () => {
  const { wallet, asked, source } = open([
    { typeUrl: 'something.Else', value: new Uint8Array() },
    answer({ authType: AuthType.CREDENTIALS, username: 'alice', secret: 'pass' }),
  ])

  expect(wallet.known(own)).toBeUndefined()
  const [one, two] = await Promise.all([wallet.find(own, signal), wallet.find(own, signal)])

  expect([one, two]).toEqual(Array(2).fill({ username: 'alice', secret: 'pass', from: 'the client' }))
  expect(await wallet.find(mirror, signal)).toEqual(NODE)
  expect(asked).toEqual([{ host: 'reg', reference: 'reg/app:1' }])
  expect(source.hostDir).toBe('/d')
})

test.each([
  [
    { authType: AuthType.REFRESH, secret: 'token' },
    { username: '', secret: 'token', from: 'the client' },
  ],
  [
    { authType: AuthType.REFRESH, username: 'alice', secret: 'token' },
    { username: '', secret: 'token', from: 'the client' },
  ],
  [{ authType: AuthType.REFRESH, secret: '' }, NODE],
  [{ authType: AuthType.NONE }, NODE],
  [{ authType: AuthType.HEADER, secret: 'Bearer x' }, NODE],
])('%j means what it says', async (init, found) => {
  expect(await open([answer(init)]).wallet.find(own, signal)).toEqual(found)
})

test.each([
  ['goes away', [], 'unauthenticated'],
  ['talks nonsense', [{ typeUrl: AuthResponseSchema.typeName, value: Uint8Array.of(255) }], 'invalid-argument'],
  ['talks about other things', Array(100).fill({ typeUrl: 'x.Y', value: new Uint8Array() }), 'unauthenticated'],
])('a client that %s is a clear failure', async (_what, answers, code) => {
  await expect(open(answers).wallet.find(own, signal)).rejects.toMatchObject({ code })
})

test('who is kept to namespaces gets nothing of the node, unless that is lent to it', async () => {
  const nothing = [answer({ authType: AuthType.NONE })]
  const [restricted, lent] = (['restricted', 'lent'] as const).map((caller) => {
    const { source, wallet } = open(nothing, { caller, hostDir: '' })
    return {
      asStranger: source.asStranger,
      found: Promise.all([wallet.find(own, signal), wallet.find(mirror, signal)]),
    }
  })

  expect([restricted?.asStranger, await restricted?.found]).toEqual([true, [undefined, undefined]])
  expect([lent?.asStranger, await lent?.found]).toEqual([false, [NODE, NODE]])
})

test.each(['restricted', 'lent'] as const)('a folder of the node is not for a client that is %s', (caller) => {
  expect(() => open([], { caller })).toThrow(
    expect.objectContaining({
      code: 'permission-denied',
      message: expect.stringContaining('the host_dir of the request'),
    }),
  )
})

test('a client that does not answer stops with its call', async () => {
  const hangup = new AbortController()
  const stream: Stream = {
    send: async () => hangup.abort(),
    received: { next: () => new Promise(() => undefined) },
    close: () => undefined,
  }
  const registry = create(OCIRegistrySchema, { reference: 'reg/app:1', resolver: { authStream: 'creds' } })
  const service = createServiceWallet(async () => NODE, Date.now)
  const { wallet } = sourceOf(registry, () => stream, { service, caller: 'free' })

  await expect(wallet?.find(own, hangup.signal)).rejects.toMatchObject({ code: 'unauthenticated' })
})
