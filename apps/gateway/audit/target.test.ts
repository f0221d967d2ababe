import { create, type DescMethod, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { anyPack } from '@bufbuild/protobuf/wkt'
import { Content, WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { expect, test } from 'vitest'
import { createTargetReader, namespacePath, type TargetPath, targetPath } from './target.ts'

function framed<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>): Buffer {
  return headed(toBinary(method.input, create(method.input, request)))
}

function headed(...parts: Uint8Array[]): Buffer {
  const message = Buffer.concat(parts)
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

/** What is told of a request that comes at once, and of one that comes byte by byte. */
function told(path: TargetPath | undefined, request: Buffer): string[] {
  if (!path) throw new Error('The request has no name')
  const [whole, bytewise] = [createTargetReader(path), createTargetReader(path)]
  whole.push(request)
  for (const byte of request) if (bytewise.push(Buffer.of(byte))) break
  return [whole.target, bytewise.target]
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
    'a name behind much else',
    Snapshots.method.commit,
    framed(Snapshots.method.commit, { snapshotter: 's'.repeat(20_000), name: 'n' }),
    'n',
  ],
]

test.each(CASES)('%s', (_what, method, request, target) => {
  expect(told(targetPath(method), request)).toEqual([target, target])
})

test('an event that is forwarded is told of in its own namespace', () => {
  const { forward } = Events.method

  const request = framed(forward, { envelope: { topic: '/t', namespace: 'theirs' } })

  expect(told(namespacePath(forward), request)).toEqual(['theirs', 'theirs'])
})

const { create: CREATE } = Images.method
const image = (name: string) => toBinary(CREATE.input, create(CREATE.input, { image: { name } }))
const field = (number: number, type: WireType) => new BinaryWriter().tag(number, type)

test.each([
  ['twice, in two parts of a message', [image('harmless'), image('meant')]],
  [
    'behind what nobody knows',
    [field(99, WireType.LengthDelimited).bytes(Buffer.alloc(50_000)).finish(), image('meant')],
  ],
])('of a request that names %s, what its owner will use is told', (_what, parts) => {
  const request = headed(...parts)
  const used = fromBinary(CREATE.input, request.subarray(5)).image?.name

  expect([used, ...told(targetPath(CREATE), request)]).toEqual(['meant', 'meant', 'meant'])
})

/** Our decoder takes them as the schema has them, whatever type they say they have. */
test.each([
  ['a field of another type', [field(1, WireType.Varint).bytes(image('meant').subarray(2)).finish()]],
  ['a group', [field(99, WireType.StartGroup).tag(99, WireType.EndGroup).finish(), image('meant')]],
  ['more fields than any', [Buffer.alloc(30_000, Buffer.of(0x98, 6, 0)), image('meant')]],
])('of a request with %s nothing is claimed', (_what, parts) => {
  const request = headed(...parts)
  const used = fromBinary(CREATE.input, request.subarray(5)).image?.name

  expect([used, ...told(targetPath(CREATE), request)]).toEqual(['meant', '?', '?'])
})

test('bytes that are no message give no name, and end', () => {
  for (let round = 0; round < 2000; round++) {
    const bytes = Buffer.from(
      Array.from({ length: round % 40 }, (_, at) => (round * 31 + at * at * 17 + round * at) & 0xff),
    )
    const [whole, bytewise] = told(targetPath(CREATE), headed(bytes))
    expect(whole).toBe(bytewise)
  }
})
