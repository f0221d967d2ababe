import { type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf'

/** How the values of a table become bytes and come back. */
export interface Codec<V> {
  encode(value: V): Uint8Array
  /** @param bytes the caller's own copy: the value may keep views onto it */
  decode(bytes: Uint8Array): V
}

/** Stores protobuf messages; fields that an older or newer version knows survive a read and a write. */
export function messageCodec<S extends DescMessage>(schema: S): Codec<MessageShape<S>> {
  return {
    encode: (message) => toBinary(schema, message),
    decode: (bytes) => fromBinary(schema, bytes),
  }
}

/** Stores plain JSON values: no bigint, no Date, no undefined inside arrays. */
export function jsonCodec<V>(): Codec<V> {
  const decoder = new TextDecoder()
  const encoder = new TextEncoder()
  return {
    encode: (value) => encoder.encode(JSON.stringify(value)),
    decode: (bytes) => JSON.parse(decoder.decode(bytes)),
  }
}

/** Stores bytes as they are. */
export const bytesCodec: Codec<Uint8Array> = { encode: (bytes) => bytes, decode: (bytes) => bytes }
