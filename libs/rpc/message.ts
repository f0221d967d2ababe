import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'

/** The most one message may hold, both ways, as containerd allows (behaviour facts, 1.1). */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024

/** Bytes as they are: what grpc-js calls a serializer, for all that is encoded and decoded here. */
export const bytes = (value: Buffer): Buffer => value

/** Reads a message that came from the other side. @throws {Fault} `invalid-argument` when the bytes are none */
export function decode<S extends DescMessage>(schema: S, message: Uint8Array): MessageShape<S> {
  try {
    return fromBinary(schema, message)
  } catch (cause) {
    throw new Fault('invalid-argument', `Cannot read the message: it is no ${schema.typeName}`, { cause })
  }
}

/** Reads messages as they come. */
export async function* decodeAll(schema: DescMessage, messages: AsyncIterable<Uint8Array>): AsyncIterable<unknown> {
  for await (const message of messages) yield decode(schema, message)
}

class Encoded {
  readonly bytes: Uint8Array
  readonly gone: (() => void) | undefined
  constructor(bytes: Uint8Array, gone?: () => void) {
    this.bytes = bytes
    this.gone = gone
  }
}

/**
 * An answer that is in bytes already: it is sent as it is.
 *
 * @param gone called when a message of a stream is sent and its bytes may change; never for one that is not sent
 */
export function encoded<S extends DescMessage>(_schema: S, bytes: Uint8Array, gone?: () => void): MessageInitShape<S> {
  return new Encoded(bytes, gone) as unknown as MessageInitShape<S>
}

/** What wants to know that the bytes of a message are sent. */
export function goneOf(init: unknown): (() => void) | undefined {
  return init instanceof Encoded ? init.gone : undefined
}

/** The bytes of a message given by its init shape, or by `encoded`. */
export function encode(schema: DescMessage, init: unknown): Buffer {
  if (init instanceof Encoded) return Buffer.from(init.bytes.buffer, init.bytes.byteOffset, init.bytes.byteLength)
  const message = toBinary(schema, create(schema, init as never))
  return Buffer.from(message.buffer, message.byteOffset, message.byteLength)
}

/** The bytes of each message as it is made. */
export async function* encodeAll(schema: DescMessage, inits: AsyncIterable<unknown>): AsyncIterable<Buffer> {
  for await (const init of inits) yield encode(schema, init)
}
