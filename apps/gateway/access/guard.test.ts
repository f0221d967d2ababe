import { mkdtempSync, rmSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { Version } from '@gantry/api/containerd/services/version/v1/version_pb'
import { EnvelopeSchema } from '@gantry/api/containerd/types/event_pb'
import { type Record as AuditRecord, BatchSchema } from '@gantry/api/gantry/audit/v1/audit_pb'
import { Health } from '@gantry/api/grpc/health/v1/health_pb'
import { type Authority, createAuthority } from '@gantry/rpc/certificates.fixture'
import { clientOf, connect } from '@gantry/rpc/client'
import { route } from '@gantry/rpc/proxy'
import { listen, listenTls, routeOf } from '@gantry/rpc/server'
import { bind, unimplemented } from '@gantry/rpc/service'
import { readKeys, readTls, type TlsKeys } from '@gantry/rpc/tls'
import type { Bus } from '@gantry/service/bus'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { createAudit } from '../audit/audit.ts'
import { eventsService } from '../events-service.ts'
import { eventsWithin } from './events.ts'
import { guarded } from './guard.ts'
import { namespacesWithin } from './namespaces.ts'
import { type Policy, parsePolicy } from './policy.ts'

vi.setConfig({ testTimeout: 30_000, hookTimeout: 60_000 })

const SCOPE = { requestId: 'r', trace: undefined, tracer: undefined }
const DAY_MS = 24 * 3600 * 1000
const log = { error: () => undefined, debug: () => undefined, warn: () => undefined }
const signal = new AbortController().signal
const published = ['ci-1', 'other', 'ci-2'].map((namespace) => ({ namespace, topic: '/t' }))

const POLICY = `
[[allow]]
cn = "ci"
namespaces = ["ci-*"]
access = "write"
[[allow]]
cn = "ci"
namespaces = ["ci-rich"]
access = "write"
lend_credentials = true

[[allow]]
cn = "reader"
namespaces = ["ci-1"]
access = "read"
[[allow]]
cn = "admin"
namespaces = ["*"]
access = "write"
`

let authority: Authority
let keys: Record<'ci' | 'reader' | 'admin' | 'stranger', TlsKeys>
let policy: Policy
let between: () => void // two events
let node: Awaited<ReturnType<typeof startNode>>
beforeAll(async () => {
  authority = await createAuthority()
  const make = async (cn: string) => readKeys({ ...(await authority.sign(cn, { cn })), ca: authority.ca })
  keys = {
    ci: await make('ci'),
    reader: await make('reader'),
    admin: await make('admin'),
    stranger: await make('stranger'),
  }
  node = await startNode()
})
afterAll(async () => {
  await node[Symbol.asyncDispose]()
  await authority[Symbol.asyncDispose]()
})
afterEach(() => {
  vi.useRealTimers()
  policy = parsePolicy('policy', POLICY, '')
  between = () => undefined
})

/** An owner, and before it what the gateway puts there. Its answers tell what reached it. */
async function startNode() {
  policy = parsePolicy('policy', POLICY, '')
  between = () => undefined
  const stack = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'gantry-guard-'))
  stack.defer(() => rmSync(folder, { recursive: true }))
  const address = join(folder, 'owner.sock')
  const images = bind(Images, {
    list: async (_request, { namespace, header }) => ({
      images: [{ name: namespace, labels: { isolated: header('gantry-isolated') ?? '' } }],
    }),
    create: async ({ image }) => ({ image: image ?? {} }),
    ...{ get: unimplemented('get'), update: unimplemented('update'), delete: unimplemented('delete') },
  })
  const namespaces = bind(Namespaces, {
    list: async () => ({ namespaces: [{ name: 'ci-1' }, { name: 'other' }] }),
    get: async ({ name }) => ({ namespace: { name } }),
    create: async ({ namespace }) => ({ namespace: namespace ?? {} }),
    ...{ update: unimplemented('update'), delete: unimplemented('delete') },
  })
  stack.use(await listen({ address, bindings: [images, namespaces], hop: true, log }))
  const owner = stack.use(connect(address))

  const records: AuditRecord[] = []
  const refused: [method: string, code: number][] = []
  const journal = {
    append: async (_id: string, data: Uint8Array) => void records.push(...fromBinary(BatchSchema, data).records),
    read: unimplemented('read'),
  }
  const audit = stack.use(createAudit({ journal, log }))
  const bus = { read: () => logged(), publish: async () => undefined } as unknown as Bus
  const version = bind(Version, { version: async () => ({ version: '1' }) })
  const watched = { log }
  const open = [version, bind(Events, eventsService(bus))].map((binding) => routeOf(binding, watched))
  const routes = guarded([...open, route(Images, owner), route(Namespaces, owner)], {
    policy: () => policy,
    audit,
    telemetry: {
      of: ({ name }) => ({ begin: () => ({ scope: SCOPE, end: (code) => void refused.push([name, code]) }) }),
    },
    within: (caller, now) =>
      [
        bind(Namespaces, namespacesWithin(now, caller, owner)),
        bind(Events, eventsService(bus, eventsWithin(now, caller))),
      ].map((binding) => routeOf(binding, watched)),
  })
  const tls = readTls(await authority.server())
  const { port } = stack.use(
    await listenTls({ host: '127.0.0.1', port: 0, keys: tls, bindings: [], routes: [routes], log }),
  )
  return { port, records, refused, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

async function* logged() {
  for (const [sequence, event] of published.entries()) {
    yield { sequence, id: '', envelope: toBinary(EnvelopeSchema, create(EnvelopeSchema, event)) }
    between()
  }
}

function clientFor(who: keyof typeof keys, { port } = node) {
  const channel = connect(`tcp://127.0.0.1:${port}`, keys[who])
  return {
    images: clientOf(Images, channel),
    namespaces: clientOf(Namespaces, channel),
    events: clientOf(Events, channel),
    version: clientOf(Version, channel),
    health: clientOf(Health, channel),
    [Symbol.asyncDispose]: () => channel[Symbol.asyncDispose](),
  }
}

test('a call that a rule allows reaches its owner, and tells it not to share; one of somebody who may all says nothing', async () => {
  await using ci = clientFor('ci')
  await using admin = clientFor('admin')

  const mine = await ci.images.list({}, { signal, namespace: 'ci-7' })
  const theirs = await admin.images.list({}, { signal, namespace: 'other' })

  expect(mine.images).toMatchObject([{ name: 'ci-7', labels: { isolated: '1' } }])
  expect(theirs.images).toMatchObject([{ name: 'other', labels: { isolated: '' } }])
})

test('credentials are lent where a rule says so, and not to who says it himself', async () => {
  await using ci = clientFor('ci')
  const forged = { 'gantry-isolated': 'credentials' }
  const told = async (namespace: string) => (await ci.images.list({}, { signal, namespace, headers: forged })).images

  expect(await told('ci-7')).toMatchObject([{ labels: { isolated: '1' } }])
  expect(await told('ci-rich')).toMatchObject([{ labels: { isolated: 'credentials' } }])
})

test('who is refused hears who was refused what', async () => {
  await using ci = clientFor('ci')
  await using reader = clientFor('reader')
  await using stranger = clientFor('stranger')
  const IMAGES = 'containerd.services.images.v1.Images'

  const calls = [
    ci.images.list({}, { signal, namespace: 'other' }),
    reader.images.create({}, { signal, namespace: 'ci-1' }),
    stranger.version.version({}, { signal }),
  ]

  expect(await Promise.all(calls.map((call) => call.catch((error: Error) => error.message)))).toEqual([
    `The policy does not let certificate "ci" call ${IMAGES}/List in namespace "other"`,
    `The policy does not let certificate "reader" call ${IMAGES}/Create`,
    'The policy does not let certificate "stranger" call containerd.services.version.v1.Version/Version',
  ])
  await expect(calls[0]).rejects.toMatchObject({ code: 'permission-denied' })
  expect(await stranger.health.check({}, { signal })).toMatchObject({ status: 1 })
})

test.each([
  ['no namespace', undefined, 'failed-precondition'],
  ['a malformed one', '-ci-', 'invalid-argument'],
  ['one that a pattern would take', 'ci-1/../other', 'invalid-argument'],
])('%s is what the owner says it is', async (_what, namespace, code) => {
  await using ci = clientFor('ci')

  await expect(ci.images.list({}, { signal, namespace })).rejects.toMatchObject({ code })
})

test('of several namespaces the one that was checked is the one that is used', async () => {
  await using ci = clientFor('ci')

  const { images } = await ci.images.list({}, { signal, namespace: 'ci-1, other' })

  expect(images.map(({ name }) => name)).toEqual(['ci-1'])
  await expect(ci.images.list({}, { signal, namespace: 'other, ci-1' })).rejects.toMatchObject({
    code: 'permission-denied',
  })
})

test.each([
  ['no body', Buffer.alloc(0)],
  ['an empty message', Buffer.alloc(5)],
  ['a message larger than any', Buffer.concat([Buffer.of(0, 0x7f, 0xff, 0xff, 0xff), Buffer.alloc(1024 * 1024)])],
  ['bytes that are none', Buffer.alloc(64, 0xff)],
])('CVE-2024-41110: %s gets nobody past the policy', async (_what, body) => {
  const session = connectHttp2(`https://127.0.0.1:${node.port}`, { ...keys.ci })
  const call = (namespace: string): Promise<number> =>
    new Promise((resolve) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': '/containerd.services.images.v1.Images/Create',
        'content-type': 'application/grpc',
        'containerd-namespace': namespace,
      })
      const hear = (headers: object) => {
        const status = (headers as Record<string, string>)['grpc-status']
        if (status !== undefined) resolve(Number(status))
      }
      stream
        .on('response', hear)
        .on('trailers', hear)
        .on('error', () => undefined)
        .resume()
      stream.end(body)
    })

  const refused = await call('other')
  session.destroy()

  expect(refused).toBe(7)
})

test('Namespaces: what the request names is checked, and a list shows what may be read', async () => {
  await using ci = clientFor('ci')
  const { namespaces } = ci

  expect((await namespaces.list({}, { signal })).namespaces.map(({ name }) => name)).toEqual(['ci-1'])
  expect(await namespaces.get({ name: 'ci-3' }, { signal })).toMatchObject({ namespace: { name: 'ci-3' } })
  await expect(namespaces.get({ name: 'other' }, { signal, namespace: 'ci-1' })).rejects.toMatchObject({
    code: 'permission-denied',
    message: expect.stringContaining('in namespace "other"'),
  })
  for (const call of [
    namespaces.create({ namespace: { name: 'other' } }, { signal }),
    namespaces.create({}, { signal }),
    namespaces.update({ namespace: { name: 'other' } }, { signal }),
    namespaces.delete({ name: 'other' }, { signal }),
  ])
    await expect(call).rejects.toMatchObject({ code: 'permission-denied' })
})

test('Events: nothing of another namespace is heard, and nothing is told there', async () => {
  await using ci = clientFor('ci')
  await using admin = clientFor('admin')
  const heard = async (client: typeof ci) =>
    (await Array.fromAsync(client.events.subscribe({}, { signal }))).map(({ namespace }) => namespace)
  const event = { typeUrl: 'x', value: new Uint8Array() }
  const forward = (namespace: string) =>
    ci.events.forward(
      { envelope: { namespace, topic: '/t', event, timestamp: { seconds: 1n } } },
      { signal, namespace: 'ci-1' },
    )

  expect(await heard(ci)).toEqual(['ci-1', 'ci-2'])
  expect(await heard(admin)).toEqual(['ci-1', 'other', 'ci-2'])
  await expect(ci.events.publish({ topic: '/t', event }, { signal, namespace: 'other' })).rejects.toMatchObject({
    code: 'permission-denied',
  })
  await expect(forward('other')).rejects.toMatchObject({ code: 'permission-denied' })
  await forward('ci-2')
})

test('a changed policy counts for the next call of a connection that stands', async () => {
  await using ci = clientFor('ci')
  await ci.images.list({}, { signal, namespace: 'ci-1' })

  policy = parsePolicy('policy', '', '')

  await expect(ci.images.list({}, { signal, namespace: 'ci-1' })).rejects.toMatchObject({ code: 'permission-denied' })
})

test('a certificate that runs out while its connection stands is worth nothing from then on', async () => {
  await using ci = clientFor('ci')
  await ci.images.list({}, { signal, namespace: 'ci-1' })

  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * DAY_MS })

  await expect(ci.images.list({}, { signal, namespace: 'ci-1' })).rejects.toMatchObject({ code: 'unauthenticated' })
})

test.each([
  [
    'that the policy ends',
    'permission-denied',
    () => {
      policy = parsePolicy('policy', '', '')
    },
  ],
  [
    'whose certificate runs out',
    'unauthenticated',
    () => {
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * DAY_MS })
    },
  ],
])('a subscription %s hears nothing more', async (_what, code, happens) => {
  await using ci = clientFor('ci')
  await using admin = clientFor('admin')
  for (const { events } of [ci, admin]) {
    const heard: string[] = []
    const hearing = (async () => {
      for await (const { namespace } of events.subscribe({}, { signal })) heard.push(namespace)
    })()
    between = happens

    await expect(hearing).rejects.toMatchObject({ code })

    expect(heard).toEqual(['ci-1'])
    vi.useRealTimers()
    policy = parsePolicy('policy', POLICY, '')
  }
})

test('a method that nobody has said of what it takes is not served', () => {
  const strange = new Map([['/a.B/C', { serve: () => undefined }]])
  const guard = { policy: () => policy, within: () => [], audit: { follow: () => undefined } }

  expect(() => guarded([strange], guard as never)).toThrow('access/methods.ts does not say')
})

test('the audit log has who changed what, and who was refused, and nothing else of a request', async () => {
  await using own = await startNode()
  await using ci = clientFor('ci', own)
  await using stranger = clientFor('stranger', own)
  const image = { name: 'docker.io/a:1', labels: { password: 'secret' } }

  await ci.images.list({}, { signal, namespace: 'ci-1' })
  await ci.images.create({ image }, { signal, namespace: 'ci-1' })
  await stranger.images.list({}, { signal, namespace: 'ci-1' }).catch(() => undefined)
  await ci.images.create({ image }, { signal, namespace: 'other' }).catch(() => undefined)
  await ci.images.update({ image }, { signal, namespace: 'ci-1' }).catch(() => undefined)
  await ci.namespaces.get({ name: 'ci-1' }, { signal, namespace: 'ci-1' })
  await ci.namespaces.get({ name: 'other' }, { signal, namespace: 'ci-1' }).catch(() => undefined)
  const event = { namespace: 'ci-2', topic: '/t', event: { typeUrl: 'x' }, timestamp: { seconds: 1n } }
  await ci.events.forward({ envelope: event }, { signal, namespace: 'ci-1' })
  await expect.poll(() => own.records.length, { timeout: 10_000 }).toBe(6)

  const common = { caller: 'certificate "ci"', target: 'docker.io/a:1', namespace: 'ci-1' }
  const expected = [
    { ...common, method: 'containerd.services.images.v1.Images/Create', code: 0 },
    { caller: 'certificate "stranger"', method: 'containerd.services.images.v1.Images/List', code: 7, target: '' },
    { ...common, namespace: 'other', code: 7, target: '' },
    { ...common, method: 'containerd.services.images.v1.Images/Update', code: 12 },
    { method: 'containerd.services.namespaces.v1.Namespaces/Get', namespace: 'other', target: 'other', code: 7 },
    { method: 'containerd.services.events.v1.Events/Forward', namespace: 'ci-2', target: '/t', code: 0 },
  ]
  expect(own.records).toEqual(expect.arrayContaining(expected.map((record) => expect.objectContaining(record))))
  expect(own.refused).toEqual([
    ['List', 7],
    ['Create', 7],
  ]) // for the metrics
  const [first] = own.records
  expect(first?.fingerprint).toMatch(/^[0-9a-f]{64}$/)
  expect(first?.durationUs).toBeGreaterThan(0n)
  expect(JSON.stringify(own.records, (_key, value) => (typeof value === 'bigint' ? 0 : value))).not.toContain('secret')
})
