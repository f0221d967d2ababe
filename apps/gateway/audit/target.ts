import { type DescField, type DescMessage, type DescMethod, ScalarType } from '@bufbuild/protobuf'
import { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'

const HEAD = 5 // bytes of gRPC before a message
const MAX_TARGET = 256 // characters that are kept
const MAX_TARGET_BYTES = 4 * MAX_TARGET
const MAX_FIELDS = 10_000 // of a request that are gone through
const MAX_VARINT = 10 // bytes

/** What is told of a request that its owner may read in another way than we do: nobody sends such a one by accident. */
const UNCLEAR = '?'

/** Protobuf's wire types. */
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5] as const
/** Bytes behind the tag, where no length says it; a varint is gone with it. */
const FIXED: Readonly<Record<number, number>> = { [VARINT]: 0, [FIXED64]: 8, [FIXED32]: 4 }

/** What names the thing a request is about, the better name first; and what holds such a name. */
const NAMES = ['container_id', 'sandbox_id', 'id', 'name', 'key', 'ref', 'digest', 'topic']
const HOLDERS = ['container', 'image', 'namespace', 'lease', 'info', 'sandbox', 'diff', 'envelope']

/** What is in an Any: the name of an image or the reference it is pushed to; the id of a stream. */
const IN_ANY: ReadonlyMap<DescMethod, readonly number[]> = new Map<DescMethod, readonly number[]>([
  [Transfer.method.transfer, [2, 2, 1]],
  [Streaming.method.stream, [2, 1]],
])

/** Where a request has a name: the numbers of the fields that lead to it. */
export interface TargetPath {
  readonly request: DescMessage
  readonly fields: readonly number[]
}

/** What a request is about; undefined when it does not say. */
export function targetPath(method: DescMethod): TargetPath | undefined {
  const fields = IN_ANY.get(method) ?? namedIn(method.input, NAMES)
  return fields && { request: method.input, fields }
}

/** The namespace of a request that does not have it in its header. */
export function namespacePath(method: DescMethod): TargetPath | undefined {
  if (method.parent === Namespaces) return targetPath(method)
  const fields = method === Events.method.forward ? namedIn(method.input, ['namespace']) : undefined
  return fields && { request: method.input, fields }
}

function namedIn(request: DescMessage, names: readonly string[]): readonly number[] | undefined {
  const own = nameIn(request, names)
  if (own !== undefined) return [own]
  for (const holder of HOLDERS) {
    const field = request.fields.find(({ name }) => name === holder)
    const inner = field?.fieldKind === 'message' ? nameIn(field.message, names) : undefined
    if (field && inner !== undefined) return [field.number, inner]
  }
  return undefined
}

function nameIn(message: DescMessage, names: readonly string[]): number | undefined {
  for (const name of names) {
    const field = message.fields.find((candidate) => candidate.name === name)
    if (field?.fieldKind === 'scalar' && field.scalar === ScalarType.STRING) return field.number
  }
  return undefined
}

/** Takes the name out of a request as its bytes come. */
export interface TargetReader {
  /** @returns whether there is nothing more to look for */
  push(chunk: Buffer): boolean
  readonly target: string
}

/** A message that is gone through. */
interface Level {
  /** Unknown in an Any. */
  readonly message: DescMessage | undefined
  /** What is wanted in it. */
  readonly fields: readonly number[]
  /** Where it ends, from the beginning of the request. */
  readonly end: number
}

const NOTHING: Buffer = Buffer.alloc(0)
/** What a step comes to that is no number of bytes. */
const [MORE, NONE] = [-1, -2]

/**
 * Nothing is decoded and next to nothing kept, but all of the message is gone through: of a field that is there twice the
 * last one counts, and that is the one that its owner will use.
 */
export function createTargetReader({ request, fields }: TargetPath): TargetReader {
  const levels: Level[] = [] // those that the next byte is in, the outermost first
  const number = createNumberReader()
  let at = 0 // how far it was gone through
  let count = 0 // of fields
  let skip = 0 // bytes that come and are nothing
  let held = NOTHING // the beginning of a field
  let target = ''
  let isOver = false

  function enter(message: DescMessage | undefined, wanted: readonly number[], head: number, size: number): number {
    levels.push({ message, fields: wanted, end: at + head + size })
    return head
  }

  /** Takes the head of the request, or of a field, and what follows where that is wanted. @returns how many bytes to go */
  function step(bytes: Buffer, from: number): number {
    const level = levels.at(-1)
    if (!level) return bytes.length - from < HEAD ? MORE : enter(request, fields, HEAD, bytes.readUInt32BE(from + 1))
    const tag = number.read(bytes, from)
    const type = tag & 7
    const field = level.message?.fields.find((candidate) => candidate.number === tag >>> 3)
    if (tag < 0) return tag
    if (field && type !== typeOf(field)) return NONE
    const value = type === VARINT || type === BYTES ? number.read(bytes, number.end) : 0
    if (value < 0) return value
    const head = number.end - from
    const size = type === BYTES ? value : (FIXED[type] ?? Number.POSITIVE_INFINITY)
    if (at + head + size > level.end) return NONE
    const [wanted, ...inner] = level.fields
    if (tag >>> 3 !== wanted || type !== BYTES) return head + size
    if (inner.length > 0) {
      const next = field?.fieldKind === 'message' ? field.message : undefined
      if (!next) target = '' // bytes of an Any: those that come later stand for all
      return enter(next, inner, head, size)
    }
    const kept = Math.min(size, MAX_TARGET_BYTES)
    if (bytes.length < number.end + kept) return MORE
    target = bytes.toString('utf8', number.end, number.end + kept).slice(0, MAX_TARGET)
    return head + size
  }

  /** @returns whether it is gone through, or cannot be */
  function goOn(bytes: Buffer): boolean {
    for (let from = 0; ; ) {
      const gone = Math.min(skip, bytes.length - from)
      skip -= gone
      from += gone
      if (skip > 0) return false
      while (levels.at(-1)?.end === at) levels.pop()
      if (at > 0 && levels.length === 0) return true
      const size = step(bytes, from)
      if (size === NONE || (size !== MORE && ++count > MAX_FIELDS)) {
        target = UNCLEAR
        return true
      }
      if (size === MORE) {
        held = Buffer.from(bytes.subarray(from))
        return false
      }
      at += size
      skip = size
    }
  }

  return {
    push(chunk) {
      const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      held = NOTHING
      isOver ||= goOn(bytes)
      return isOver
    },
    get target() {
      return isOver ? target : ''
    },
  }
}

/** Reads varints as our decoder reads lengths and tags: the lower 32 bits. */
function createNumberReader() {
  return {
    /** Behind the number that was read last. */
    end: 0,
    /** `MORE` when it is not all there, `NONE` when it does not end. */
    read(bytes: Buffer, from: number): number {
      let value = 0
      for (let n = 0; n < MAX_VARINT; n++) {
        const byte = bytes[from + n]
        if (byte === undefined) return MORE
        if (n < 5) value |= (byte & 0x7f) << (7 * n)
        if (byte >= 0x80) continue
        this.end = from + n + 1
        return value >>> 0
      }
      return NONE
    },
  }
}

/** Our decoder goes by the schema, and takes a value for what it should be. */
function typeOf(field: DescField): number {
  if (field.fieldKind === 'enum') return VARINT
  return (field.fieldKind === 'scalar' ? SCALARS[field.scalar] : undefined) ?? BYTES
}

const SCALARS: Readonly<Record<number, number>> = {
  ...{ [ScalarType.DOUBLE]: FIXED64, [ScalarType.FIXED64]: FIXED64, [ScalarType.SFIXED64]: FIXED64 },
  ...{ [ScalarType.FLOAT]: FIXED32, [ScalarType.FIXED32]: FIXED32, [ScalarType.SFIXED32]: FIXED32 },
  ...{ [ScalarType.INT32]: VARINT, [ScalarType.UINT32]: VARINT, [ScalarType.SINT32]: VARINT },
  ...{
    [ScalarType.INT64]: VARINT,
    [ScalarType.UINT64]: VARINT,
    [ScalarType.SINT64]: VARINT,
    [ScalarType.BOOL]: VARINT,
  },
}
