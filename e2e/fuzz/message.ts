/** The bytes of random messages, made field by field from their descriptors: they need not be what a library would encode. */
import type { DescEnum, DescField, DescMessage } from '@bufbuild/protobuf'
import { ScalarType } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { TaskExitSchema } from '@gantry/api/containerd/events/task_pb'
import { StreamInitSchema } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { RuntimeRequestSchema } from '@gantry/api/containerd/types/introspection_pb'
import { OptionsSchema as RuncOptionsSchema } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { ImageExportStreamSchema, ImageImportStreamSchema } from '@gantry/api/containerd/types/transfer/importexport_pb'
import { OCIRegistrySchema } from '@gantry/api/containerd/types/transfer/registry_pb'
import { DataSchema, WindowUpdateSchema } from '@gantry/api/containerd/types/transfer/streaming_pb'
import fc from 'fast-check'
import { mountValue, processText, resourcesText, specText } from './runtime-values.ts'
import { type Ground, labelKey, labelValue, mostly, textFor } from './values.ts'

type Bytes = fc.Arbitrary<Uint8Array>

const NUMBERS = [
  0n,
  1n,
  2n,
  9n,
  15n,
  64n,
  65n,
  -1n,
  100n,
  4096n,
  2n ** 31n - 1n,
  -(2n ** 31n),
  2n ** 32n - 1n,
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  -(2n ** 63n),
  253402300800n,
  -62135596800n,
]
const NOTHING = new Uint8Array()
const MOST_DEPTH = 3

/** The bytes of one message of that type. */
export function messageBytes(schema: DescMessage, parts: Ground): Bytes {
  return fc.oneof(
    { arbitrary: fields(schema, parts, 0), weight: 30 },
    { arbitrary: fc.tuple(fields(schema, parts, 0), oddities).map(concat), weight: 5 },
    { arbitrary: fc.uint8Array({ maxLength: 200 }), weight: 1 },
    { arbitrary: fc.constant(NOTHING), weight: 1 },
  )
}

/** Valid wire format that no field of ours has: unknown fields, groups in groups, wrong wire types. */
const oddities: Bytes = fc.constantFrom(
  written((writer) => writer.tag(15_000, WireType.Varint).int64(-1n)),
  written((writer) => writer.tag(1, WireType.Varint).int64(7n)),
  written((writer) => writer.tag(1, WireType.LengthDelimited).bytes(new Uint8Array([0xff, 0xfe, 0xc0]))),
  written((writer) => writer.tag(2, WireType.Bit64).fixed64(1n)),
  written((writer) => nestGroups(writer, 100)),
  written((writer) => nestGroups(writer, 100_000)),
  new Uint8Array([0x0b, 0x0c]),
  new Uint8Array([0x0c]),
  new Uint8Array([0x00]),
  new Uint8Array([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
  new Uint8Array(11).fill(0xff),
)

function nestGroups(writer: BinaryWriter, depth: number): void {
  for (let at = 0; at < depth; at++) writer.tag(1000, WireType.StartGroup)
  for (let at = 0; at < depth; at++) writer.tag(1000, WireType.EndGroup)
}

/** Each is made once: messages hold others, and an Any may hold many. */
const MADE = new WeakMap<Ground, Map<string, Bytes>>()

function fields(schema: DescMessage, parts: Ground, depth: number): Bytes {
  if (depth > MOST_DEPTH) return fc.constant(NOTHING)
  const made = MADE.get(parts) ?? new Map<string, Bytes>()
  MADE.set(parts, made)
  const name = `${depth} ${schema.typeName}`
  const bytes = made.get(name) ?? newFields(schema, parts, depth)
  made.set(name, bytes)
  return bytes
}

function newFields(schema: DescMessage, parts: Ground, depth: number): Bytes {
  if (schema.typeName === 'containerd.types.Mount') return mountBytes(schema, parts)
  const each = schema.fields.map((field) => presence(field, fieldBytes(field, schema, parts, depth), parts.tame))
  return each.length === 0 ? fc.constant(NOTHING) : fc.tuple(...each).map(concat)
}

function fieldBytes(field: DescField, schema: DescMessage, parts: Ground, depth: number): Bytes {
  switch (field.fieldKind) {
    case 'message':
      return delimited(field.number, nested(field.message, field.name, schema, parts, depth))
    case 'enum':
      return enumOf(field.enum).map((value) =>
        written((writer) => writer.tag(field.number, WireType.Varint).int32(value)),
      )
    case 'scalar':
      return scalar(field.number, field.scalar, field.name, schema, parts)
    case 'map':
      return mapOf(field, schema, parts, depth)
    case 'list': {
      if (field.message?.typeName === 'containerd.types.Mount')
        return fc.oneof(
          few(delimited(field.number, fields(field.message, parts, depth))),
          rootfsBytes(field.number, field.message, parts),
        )
      const item = field.message
        ? delimited(field.number, nested(field.message, field.name, schema, parts, depth + 1))
        : scalar(field.number, field.scalar ?? ScalarType.INT32, field.name, schema, parts)
      return mostly(
        few(item),
        item.map((bytes) => repeated(bytes, Math.min(10_000, Math.floor(200_000 / (bytes.length + 1))))),
        60,
      )
    }
  }
}

/** What most clients leave out is left out mostly: with it there is no getting to what lies behind. */
const RARE = new Set([
  'checkpoint',
  'task_api_address',
  'task_api_version',
  'runtime_path',
  'options',
  'payloads',
  'update_mask',
])

function presence({ name }: DescField, value: Bytes, tame: number): Bytes {
  return RARE.has(name) ? mostly(fc.constant(NOTHING), value, 3) : mostly(value, fc.constant(NOTHING), tame)
}

const few = (item: Bytes): Bytes => fc.array(item, { maxLength: 3 }).map(concat)

function scalar(number: number, type: ScalarType, name: string, schema: DescMessage, parts: Ground): Bytes {
  switch (type) {
    case ScalarType.STRING:
      return delimited(number, text(name, schema, parts))
    case ScalarType.BYTES:
      return delimited(number, mostly(fc.uint8Array({ maxLength: 40 }), fc.constant(new Uint8Array(300_000)), 20))
    case ScalarType.DOUBLE:
      return fc.double().map((value) => written((writer) => writer.tag(number, WireType.Bit64).double(value)))
    default:
      return mostly(fc.constantFrom(...NUMBERS), fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), 9).map((value) =>
        written((writer) => writer.tag(number, WireType.Varint).int64(value)),
      )
  }
}

function text(name: string, schema: DescMessage, parts: Ground): Bytes {
  const type = schema.typeName.split('.').slice(-2).join('.')
  const short = schema.name
  const good = textFor(name, /^[A-Z].*\./.test(type) ? type : short, parts).map((value) => Buffer.from(value))
  return mostly(
    good,
    fc.constantFrom(new Uint8Array([0xff]), new Uint8Array([0x61, 0xc3]), new Uint8Array([0xed, 0xa0, 0x80])),
    60,
  )
}

function enumOf({ values }: DescEnum): fc.Arbitrary<number> {
  return mostly(fc.constantFrom(...values.map(({ number }) => number)), fc.constantFrom(-1, 99, 2 ** 31 - 1), 8)
}

function mapOf(field: DescField & { fieldKind: 'map' }, schema: DescMessage, parts: Ground, depth: number): Bytes {
  const value: Bytes = field.message
    ? delimited(2, nested(field.message, field.name, schema, parts, depth + 1))
    : delimited(
        2,
        labelValue(parts).map((value) => Buffer.from(value)),
      )
  const entry = delimited(
    field.number,
    fc
      .tuple(
        delimited(
          1,
          labelKey(parts).map((key) => Buffer.from(key)),
        ),
        value,
      )
      .map(concat),
  )
  const huge = fc
    .integer({ min: 1, max: 3000 })
    .map((count) =>
      concat(
        Array.from({ length: count }, (_, at) =>
          asDelimited(
            field.number,
            concat([asDelimited(1, Buffer.from(`k${at}`)), asDelimited(2, field.message ? NOTHING : Buffer.from('v'))]),
          ),
        ),
      ),
    )
  return mostly(few(entry), huge, 60)
}

function nested(message: DescMessage, name: string, parent: DescMessage, parts: Ground, depth: number): Bytes {
  return message.typeName === 'google.protobuf.Any'
    ? anyFor(name, parent, parts, depth)
    : fields(message, parts, depth + 1)
}

const SPEC = 'types.containerd.io/opencontainers/runtime-spec/1'

/** What is expected there, something else that exists, or nothing that does. */
function anyFor(name: string, parent: DescMessage, parts: Ground, depth: number): Bytes {
  const json = (type: string, value: fc.Arbitrary<string>) =>
    packed(
      fc.constant(`${SPEC}/${type}`),
      value.map((each) => Buffer.from(each)),
    )
  const of = (schema: DescMessage) =>
    packed(fc.constantFrom(schema.typeName, `type.googleapis.com/${schema.typeName}`), fields(schema, parts, depth + 1))
  const transfers = [OCIRegistrySchema, ImageStoreSchema, ImageImportStreamSchema, ImageExportStreamSchema].map(of)
  const usual =
    name === 'spec'
      ? parent.name === 'ExecProcessRequest'
        ? json('Process', processText(parts))
        : json('Spec', specText(parts))
      : name === 'resources'
        ? json('LinuxResources', resourcesText)
        : name === 'options'
          ? fc.oneof(of(RuncOptionsSchema), of(RuntimeRequestSchema))
          : name === 'source' || name === 'destination'
            ? fc.oneof(...transfers)
            : fc.oneof(of(TaskExitSchema), of(StreamInitSchema), of(DataSchema), of(WindowUpdateSchema))
  const other = packed(
    fc.constantFrom(
      '',
      'x',
      '/',
      'google.protobuf.Any',
      'containerd.events.TaskExit',
      'containerd.runc.v1.Options',
      `${SPEC}/Spec`,
      'a'.repeat(5000),
      '\0',
    ),
    mostly(fc.uint8Array({ maxLength: 30 }), fc.constant(ANY_IN_ANY), 10),
  )
  return mostly(usual, other, 6)
}

/** Each inside the next one. */
const ANY_IN_ANY = anyInAny(1000)

const packed = (type: fc.Arbitrary<string>, value: Bytes): Bytes =>
  fc
    .tuple(
      delimited(
        1,
        type.map((each) => Buffer.from(each)),
      ),
      delimited(2, value),
    )
    .map(concat)

function anyInAny(depth: number): Uint8Array {
  let bytes: Uint8Array = NOTHING
  for (let at = 0; at < depth; at++)
    bytes = concat([asDelimited(1, Buffer.from('google.protobuf.Any')), asDelimited(2, bytes)])
  return bytes
}

function mountBytes({ fields }: DescMessage, parts: Ground): Bytes {
  return mountValue(parts).map((mount) => encodeMount(fields, mount))
}

function rootfsBytes(number: number, { fields }: DescMessage, { rootfs }: Ground): Bytes {
  return fc.constant(concat(rootfs.map((mount) => asDelimited(number, encodeMount(fields, mount)))))
}

function encodeMount(fields: readonly DescField[], mount: Readonly<Record<string, unknown>> | object): Uint8Array {
  const values = mount as Readonly<Record<string, string | readonly string[]>>
  return concat(
    fields.flatMap(({ name, number }) =>
      [values[name] ?? []].flat().map((value) => asDelimited(number, Buffer.from(value))),
    ),
  )
}

const delimited = (number: number, value: Bytes): Bytes => value.map((bytes) => asDelimited(number, bytes))

function asDelimited(number: number, bytes: Uint8Array): Uint8Array {
  return written((writer) => writer.tag(number, WireType.LengthDelimited).bytes(bytes))
}

function written(write: (writer: BinaryWriter) => unknown): Uint8Array {
  const writer = new BinaryWriter()
  write(writer)
  return writer.finish()
}

function repeated(bytes: Uint8Array, times: number): Uint8Array {
  return Buffer.concat(Array.from({ length: times }, () => bytes))
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts)
}
