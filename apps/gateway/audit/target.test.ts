import { create, type DescMethod, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { anyPack } from '@bufbuild/protobuf/wkt'
import { Content, WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { expect, test } from 'vitest'
import { createTargetReader, fieldAt, targetPath } from './target.ts'

function framed<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>): Buffer {
  const message = toBinary(method.input, create(method.input, request))
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

const CASES: [string, DescMethod, Buffer, string][] = [
  [
    'a name in what is made',
    Images.method.create,
    framed(Images.method.create, { image: { name: 'a/b:c', labels: { secret: 'x' } } }),
    'a/b:c',
  ],
  [
    'a field behind others',
    Content.method.write,
    framed(Content.method.write, { action: WriteAction.STAT, ref: 'r1', total: 5n, offset: 7n }),
    'r1',
  ],
  [
    'the name of an image in an Any',
    Transfer.method.transfer,
    framed(Transfer.method.transfer, {
      source: { typeUrl: 'x', value: new Uint8Array(3000) },
      destination: anyPack(ImageStoreSchema, create(ImageStoreSchema, { name: 'docker.io/a:1' })),
    }),
    'docker.io/a:1',
  ],
  ['no name', Images.method.create, framed(Images.method.create, {}), ''],
  [
    'a long name, cut',
    Snapshots.method.remove,
    framed(Snapshots.method.remove, { key: 'k'.repeat(1000) }),
    'k'.repeat(256),
  ],
  [
    'a name past what is looked at',
    Snapshots.method.commit,
    framed(Snapshots.method.commit, { snapshotter: 's'.repeat(20_000), name: 'n' }),
    '',
  ],
]

test.each(CASES)('%s', (_what, method, request, target) => {
  const whole = createTargetReader(targetPath(method) ?? [])
  const bytewise = createTargetReader(targetPath(method) ?? [])

  expect(whole.push(request)).toBe(true)
  for (const byte of request) if (bytewise.push(Buffer.of(byte))) break

  expect([whole.target, bytewise.target]).toEqual([target, target])
})

test('bytes that are no message give no name, and end', () => {
  for (let round = 0; round < 2000; round++) {
    const bytes = Buffer.from(
      Array.from({ length: round % 40 }, (_, at) => (round * 31 + at * at * 17 + round * at) & 0xff),
    )
    const found = fieldAt(bytes, [1, 1])
    expect(found === undefined || typeof found === 'string').toBe(true)
  }
})
