import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf'

/** What travels as `google.protobuf.Any`. */
export interface Packed {
  readonly typeUrl: string
  readonly value: Uint8Array
}

/** Packs a message under its bare name: containerd compares the URL with the name and knows no prefix. */
export function pack<S extends DescMessage>(schema: S, init: MessageInitShape<S>): Packed {
  return { typeUrl: schema.typeName, value: toBinary(schema, create(schema, init)) }
}

/** Packs one of the OCI documents that travel as JSON text, such as `Spec` or `Process`. */
export function packJson(name: string, value: unknown): Packed {
  const typeUrl = `types.containerd.io/opencontainers/runtime-spec/1/${name}`
  return { typeUrl, value: Buffer.from(JSON.stringify(value, exactly)) }
}

const json: typeof JSON & { rawJSON?(text: string): unknown } = JSON

/** A limit such as 2^64 - 1 is a bigint and does not survive as a number. */
function exactly(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? (json.rawJSON?.(value.toString()) ?? Number(value)) : value
}

/** The name of the packed message, whoever packed it. */
export function typeNameOf(any: Packed): string {
  return any.typeUrl.slice(any.typeUrl.lastIndexOf('/') + 1)
}
