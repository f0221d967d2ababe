import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import { TransferRequestSchema } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { ImageExportStreamSchema, ImageImportStreamSchema } from '@gantry/api/containerd/types/transfer/importexport_pb'
import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import { HTTPDebug, OCIRegistrySchema } from '@gantry/api/containerd/types/transfer/registry_pb'
import { DataSchema, WindowUpdateSchema } from '@gantry/api/containerd/types/transfer/streaming_pb'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { ISOLATED_HEADER, LENT } from '@gantry/rpc/context'
import { encode } from '@gantry/rpc/message'
import { expect, test } from 'vitest'
import type { ImageRecord, Images } from './images.ts'
import type { PullRequest } from './pull/pull.ts'
import type { PushRequest } from './push/push.ts'
import { createServiceWallet } from './registry/wallet.ts'
import { createStreams } from './streaming/streams.ts'
import { transferService } from './transfer-service.ts'

const NS = parseNamespace('default')
const TARGET = { mediaType: MEDIA.ociManifest, digest: sha256Of('manifest'), size: 8n }

const any = <S extends DescMessage>(schema: S, init: MessageInitShape<S>, host = ''): Any => ({
  $typeName: 'google.protobuf.Any',
  typeUrl: `${host}${schema.typeName}`,
  value: toBinary(schema, create(schema, init)),
})
const sent = (message: unknown): Any => fromBinary(AnySchema, encode(AnySchema, message))
const registry = (reference: string) => any(OCIRegistrySchema, { reference })
const store = (init: MessageInitShape<typeof ImageStoreSchema>) => any(ImageStoreSchema, init)

const many = Array.from({ length: 1025 }, (_, at) => ({ name: `n${at}`, os: 'linux' }))

function setUp() {
  const records: ImageRecord[] = []
  const pulls: PullRequest[] = []
  const pushes: PushRequest[] = []
  const imported: number[] = []
  const logged: object[] = []
  const images: Images = {
    target: async (_, name) => {
      if (name !== 'known') throw new Fault('not-found', `image "${name}": not found`)
      return TARGET
    },
    put: async (_, record) => void records.push(record),
  }
  const streams = createStreams()
  const unused = async () => Promise.reject(new Error('unused'))
  const service = transferService({
    images,
    streams,
    wallet: createServiceWallet(async () => undefined, Date.now),
    log: { debug: (fields) => void logged.push(fields) },
    importArchive: async ({ bytes, store: into }, _, { progress }) => {
      for await (const chunk of bytes) imported.push(...chunk)
      progress.say('saved', into.name)
    },
    exportArchive: async function* ({ store: from }) {
      if (from.name !== 'known') await unused()
      yield Buffer.alloc(100_000, 1)
      yield Buffer.alloc(50_000, 2)
    },
    push: async (request) => void pushes.push(request),
    pull: async (request, _, { progress }) => {
      pulls.push(request)
      request.source.log?.('> GET something\n')
      progress.say('Pulling from somewhere')
    },
  })
  const signal = new AbortController().signal
  return {
    records,
    pulls,
    pushes,
    imported,
    logged,
    streams,
    transfer: (source: Any, destination: Any, progressStream = '', isolated?: string) =>
      service.transfer(create(TransferRequestSchema, { source, destination, options: { progressStream } }), {
        ...{ namespace: NS, lease: undefined, signal },
        header: (name) => (name === ISOLATED_HEADER ? isolated : undefined),
      }),
  }
}

test('a registry into the image store is a pull', async () => {
  const { transfer, pulls } = setUp()

  await transfer(
    registry('ghcr.io/team/app:1'),
    store({ name: 'app', platforms: [{ os: 'linux', architecture: 'x86_64' }] }),
  )

  expect(pulls).toMatchObject([
    {
      source: { reference: { host: 'ghcr.io', path: 'team/app', tag: '1' }, defaultScheme: '' },
      platforms: [{ os: 'linux', architecture: 'amd64' }],
    },
  ])
})

test('what the gateway says of a caller counts for pulls and pushes', async () => {
  const { transfer, pulls, pushes } = setUp()

  for (const said of [undefined, '1', LENT]) {
    await transfer(registry('a.io/b:1'), store({ name: 'a' }), '', said)
    await transfer(store({ name: 'known' }), registry('a.io/b:1'), '', said)
  }

  expect(pulls.map(({ source }) => source.asStranger)).toEqual([false, true, false])
  expect(pushes.map(({ to }) => to.asStranger)).toEqual([false, true, false])
})

test('the image store into itself gives another name, with or without a host in the type', async () => {
  const { transfer, records } = setUp()

  await transfer(
    any(ImageStoreSchema, { name: 'known' }, 'type.googleapis.com/'),
    store({ name: 'alias', labels: { a: '1' } }),
  )

  expect(records).toEqual([{ name: 'alias', labels: { a: '1' }, target: TARGET }])
})

test('further names live as long as the first one', async () => {
  const { transfer, records } = setUp()
  const extraReferences = [
    { name: 'plain' },
    { name: 'repo', addDigest: true },
    { name: 'prefix', isPrefix: true },
    { name: 'prefix', isPrefix: true, addDigest: true, skipNamedDigest: true },
  ]

  await transfer(store({ name: 'known' }), store({ name: 'main', extraReferences }))

  expect(records.map(({ name }) => name)).toEqual(['main', 'plain', `repo@${TARGET.digest}`])
  expect(records[1]?.labels).toEqual({
    'containerd.io/gc.bref.image': 'main',
    'containerd.io/gc.expire': '1970-01-01T00:00:00.000Z',
  })
})

test('progress goes to the stream the client names, which ends with the call', async () => {
  const { transfer, streams } = setUp()
  async function* nothing() {}
  const received = nothing()
  using stream = streams.open({ namespace: 'default', id: 'p' }, received, new AbortController().signal)

  await transfer(registry('ghcr.io/team/app:1'), store({ name: 'app' }), 'p')

  const messages = await Array.fromAsync(stream.outgoing(), sent)
  expect(messages.map(({ value }) => fromBinary(ProgressSchema, value).event)).toEqual(['Pulling from somewhere'])
})

/** A client's side of a stream: sends `bytes` as it is allowed, and allows `window` bytes at first and 64 KiB each time after. */
function openPipe(streams: ReturnType<typeof createStreams>, id: string, bytes: Uint8Array = new Uint8Array()) {
  const toServer = new TransformStream<Any, Any>(undefined, { highWaterMark: 1000 })
  const writer = toServer.writable.getWriter()
  const received = toServer.readable[Symbol.asyncIterator]()
  const stream = streams.open({ namespace: 'default', id }, received, new AbortController().signal)
  const got: number[] = []
  const run = async () => {
    let [at, window] = [0, 0]
    if (bytes.length === 0) void writer.write(any(WindowUpdateSchema, { update: 65_536 }))
    for await (const outgoing of stream.outgoing()) {
      const message = sent(outgoing)
      if (message.typeUrl === WindowUpdateSchema.typeName) {
        window += fromBinary(WindowUpdateSchema, message.value).update
        for (; at < bytes.length && window > 0; at += 20_000) {
          const data = bytes.subarray(at, at + 20_000)
          window -= data.length
          await writer.write(any(DataSchema, { data }))
        }
        if (at >= bytes.length) await writer.close().catch(() => undefined)
      } else {
        const { data } = fromBinary(DataSchema, message.value)
        expect(data.length).toBeLessThanOrEqual(32 * 1024)
        got.push(...data)
        await writer.write(any(WindowUpdateSchema, { update: data.length }))
      }
    }
    return got
  }
  return { done: run(), [Symbol.dispose]: () => stream[Symbol.dispose]() }
}

test.each([
  ['the stream that the client names', HTTPDebug.DEBUG, 'logs', '> GET something\n', []],
  ['our own log without one', HTTPDebug.BOTH, '', '', [{ http: '> GET something\n' }]],
  ['nowhere unless it was asked for', HTTPDebug.DISABLED, 'logs', '', []],
])('requests to a registry are told to %s', async (_, httpDebug, logsStream, text, own) => {
  const { transfer, streams, logged } = setUp()
  using pipe = openPipe(streams, 'logs')

  await transfer(
    any(OCIRegistrySchema, { reference: 'ghcr.io/team/app:1', resolver: { httpDebug, logsStream } }),
    store({ name: 'app' }),
  )

  if (logsStream === '') streams.get('default', 'logs').close() // else it ends with the transfer
  expect(Buffer.from(await pipe.done).toString()).toBe(text)
  expect(logged).toEqual(own)
})

test('the image store into a registry is a push', async () => {
  const { transfer, pushes } = setUp()

  await transfer(store({ name: 'known', platforms: [{ os: 'linux', architecture: 'amd64' }] }), registry('a.io/b:1'))

  expect(pushes).toMatchObject([{ name: 'known', to: { reference: { tag: '1' } }, platforms: [{ os: 'linux' }] }])
})

test('the bytes of a stream are imported, and the stream ends with the transfer', async () => {
  const { transfer, imported, streams } = setUp()
  const bytes = Buffer.alloc(3_000_000, 5)
  using pipe = openPipe(streams, 'in', bytes)

  await transfer(any(ImageImportStreamSchema, { stream: 'in' }), store({ name: 'a' }))

  await pipe.done
  expect(Buffer.compare(Buffer.from(imported), bytes)).toBe(0)
})

test('an export is sent as far as the client allows, and its end is the end of the stream', async () => {
  const { transfer, streams } = setUp()
  using pipe = openPipe(streams, 'out')

  await transfer(store({ name: 'known' }), any(ImageExportStreamSchema, { stream: 'out' }))

  const expected = Buffer.concat([Buffer.alloc(100_000, 1), Buffer.alloc(50_000, 2)])
  expect(Buffer.compare(Buffer.from(await pipe.done), expected)).toBe(0)
})

test('a stream into a stream gives the bytes back', async () => {
  const { transfer, streams } = setUp()
  const bytes = Buffer.alloc(300_000, 9)
  using from = openPipe(streams, 'in', bytes)
  using to = openPipe(streams, 'out')

  await transfer(any(ImageImportStreamSchema, { stream: 'in' }), any(ImageExportStreamSchema, { stream: 'out' }))

  expect(Buffer.compare(Buffer.from(await to.done), bytes)).toBe(0)
  await from.done
})

test.each([
  ['an unknown stream', registry('ghcr.io/team/app:1'), store({ name: 'a' }), 'nope', 'not-found'],
  ['names without end', store({ name: 'known' }), store({ name: 'a', extraReferences: many }), '', 'invalid-argument'],
  ['platforms without end', registry('a.io/b:1'), store({ name: 'a', platforms: many }), '', 'invalid-argument'],
  ['a malformed reference', registry('no host'), store({ name: 'a' }), '', 'invalid-argument'],
  ['an image nobody knows', store({ name: 'unknown' }), store({ name: 'a' }), '', 'not-found'],
  ['an export without a stream', store({ name: 'known' }), any(ImageExportStreamSchema, {}), '', 'not-found'],
  ['an import without a stream', any(ImageImportStreamSchema, { stream: 'x' }), store({ name: 'a' }), '', 'not-found'],
  ['a pull into an archive', registry('ghcr.io/team/app:1'), any(ImageExportStreamSchema, {}), '', 'unimplemented'],
  ['nothing at all', any(WindowUpdateSchema, {}), any(WindowUpdateSchema, {}), '', 'unimplemented'],
])('%s fails as it should', async (_, source, destination, stream, code) => {
  const { transfer } = setUp()

  await expect(transfer(source, destination, stream)).rejects.toMatchObject({ code })
})
