import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import { TransferRequestSchema } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { ImageExportStreamSchema } from '@gantry/api/containerd/types/transfer/importexport_pb'
import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import { OCIRegistrySchema } from '@gantry/api/containerd/types/transfer/registry_pb'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test } from 'vitest'
import type { ImageRecord, Images } from './images.ts'
import type { PullRequest } from './pull/pull.ts'
import { createStreams } from './streaming/streams.ts'
import { transferService } from './transfer-service.ts'

const NS = parseNamespace('default')
const TARGET = { mediaType: MEDIA.ociManifest, digest: sha256Of('manifest'), size: 8n }

const any = <S extends DescMessage>(schema: S, init: MessageInitShape<S>, host = ''): Any => ({
  $typeName: 'google.protobuf.Any',
  typeUrl: `${host}${schema.typeName}`,
  value: toBinary(schema, create(schema, init)),
})
const registry = (reference: string) => any(OCIRegistrySchema, { reference })
const store = (init: MessageInitShape<typeof ImageStoreSchema>) => any(ImageStoreSchema, init)

function setUp() {
  const records: ImageRecord[] = []
  const pulls: PullRequest[] = []
  const images: Images = {
    target: async (_, name) => {
      if (name !== 'known') throw new Fault('not-found', `image "${name}": not found`)
      return TARGET
    },
    put: async (_, record) => void records.push(record),
  }
  const streams = createStreams()
  const service = transferService({
    images,
    streams,
    pull: async (request, _, { progress }) => {
      pulls.push(request)
      progress.say('Pulling from somewhere')
    },
  })
  const context = { namespace: NS, lease: undefined, header: () => undefined, signal: new AbortController().signal }
  return {
    records,
    pulls,
    streams,
    transfer: (source: Any, destination: Any, progressStream = '') =>
      service.transfer(create(TransferRequestSchema, { source, destination, options: { progressStream } }), context),
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

  const messages = await Array.fromAsync(stream.outgoing())
  expect(messages.map(({ value }) => fromBinary(ProgressSchema, value).event)).toEqual(['Pulling from somewhere'])
})

test.each([
  ['an unknown stream', registry('ghcr.io/team/app:1'), store({ name: 'a' }), 'nope', 'not-found'],
  ['a malformed reference', registry('no host'), store({ name: 'a' }), '', 'invalid-argument'],
  ['an image nobody knows', store({ name: 'unknown' }), store({ name: 'a' }), '', 'not-found'],
  ['a push', store({ name: 'known' }), registry('ghcr.io/team/app:1'), '', 'unimplemented'],
  ['an export', store({ name: 'known' }), any(ImageExportStreamSchema, {}), '', 'unimplemented'],
])('%s fails as it should', async (_, source, destination, stream, code) => {
  const { transfer } = setUp()

  await expect(transfer(source, destination, stream)).rejects.toMatchObject({ code })
})
