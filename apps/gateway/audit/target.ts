import { type DescMessage, type DescMethod, ScalarType } from '@bufbuild/protobuf'
import { Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'

const HEAD = 5 // bytes of gRPC before a message
const MAX_LOOK = 16 * 1024 // bytes of a request that are looked at
const MAX_TARGET = 256 // characters that are kept
const BYTES = 2 // protobuf's wire types: a varint is 0, fixed ones are 1 and 5
const SKIP: Readonly<Record<number, number>> = { 1: 8, 5: 4 }

/** What names the thing a request is about, the better name first; and what holds such a name. */
const NAMES = ['container_id', 'sandbox_id', 'id', 'name', 'key', 'ref', 'digest', 'topic']
const HOLDERS = ['container', 'image', 'namespace', 'lease', 'info', 'sandbox', 'diff', 'envelope']

/** What is in an Any: the name of an image or the reference it is pushed to; the id of a stream. */
const IN_ANY: ReadonlyMap<DescMethod, readonly number[]> = new Map<DescMethod, readonly number[]>([
  [Transfer.method.transfer, [2, 2, 1]],
  [Streaming.method.stream, [2, 1]],
])

/** The numbers of the fields that lead to the name a request begins with; undefined when it has none. */
export function targetPath(method: DescMethod): readonly number[] | undefined {
  const known = IN_ANY.get(method)
  if (known) return known
  const own = nameIn(method.input)
  if (own !== undefined) return [own]
  for (const holder of HOLDERS) {
    const field = method.input.fields.find(({ name }) => name === holder)
    const inner = field?.fieldKind === 'message' ? nameIn(field.message) : undefined
    if (field && inner !== undefined) return [field.number, inner]
  }
  return undefined
}

function nameIn(message: DescMessage): number | undefined {
  for (const name of NAMES) {
    const field = message.fields.find((candidate) => candidate.name === name)
    if (field?.fieldKind === 'scalar' && field.scalar === ScalarType.STRING) return field.number
  }
  return undefined
}

/** Takes the name out of the first bytes of a request, as they come. */
export interface TargetReader {
  /** @returns whether there is nothing more to look for */
  push(chunk: Buffer): boolean
  readonly target: string
}

export function createTargetReader(path: readonly number[]): TargetReader {
  let held: Buffer = Buffer.alloc(0)
  let target = ''
  return {
    push(chunk) {
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      const end = held.length < HEAD ? Number.POSITIVE_INFINITY : HEAD + held.readUInt32BE(1)
      if (held.length < Math.min(end, MAX_LOOK)) return false
      target = fieldAt(held.subarray(HEAD, Math.min(end, MAX_LOOK)), path)?.slice(0, MAX_TARGET) ?? ''
      held = Buffer.alloc(0)
      return true
    },
    get target() {
      return target
    },
  }
}

/** Reads one string of a message of protobuf without decoding the rest. Undefined when it is not there or not whole. */
export function fieldAt(message: Buffer, [number, ...inner]: readonly number[]): string | undefined {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 1; at < message.length; shift *= 128) {
      const byte = message[at++] ?? 0
      value += (byte & 0x7f) * shift
      if (byte < 0x80) return value
    }
    return Number.NaN
  }
  while (at < message.length) {
    const tag = varint()
    const type = tag % 8
    if (type === 0) varint()
    else if (type === BYTES) {
      const length = varint()
      if (!(length <= message.length) && (tag - type) / 8 !== number) return undefined
      const value = message.subarray(at, at + length)
      if ((tag - type) / 8 === number) return inner.length > 0 ? fieldAt(value, inner) : value.toString('utf8')
      at += length
    } else {
      const width = SKIP[type]
      if (width === undefined) return undefined
      at += width
    }
  }
  return undefined
}
