import type { Socket } from 'node:net'

/** The most one frame may carry, both ways. */
export const MAX_FRAME_BYTES = 4 * 1024 * 1024
const HEADER_BYTES = 10

/** The header that names the tenant of a call, which has a name of its own here (behaviour facts, 1.2). */
export const TTRPC_NAMESPACE_HEADER = 'containerd-namespace-ttrpc'

export const REQUEST = 1
export const RESPONSE = 2
/** One message of a stream. */
export const DATA = 3

/** Flags: nothing follows from this side; messages follow; this is the end alone, not an empty message. */
export const CLOSED = 1
export const OPEN = 2
export const NO_DATA = 4

/** One message of ttrpc on its way: a header of 10 bytes, then the payload (behaviour facts, 16.7). */
export interface Frame {
  readonly streamId: number
  readonly type: number
  readonly flags: number
  /** Undefined when it was larger than a frame may be: its bytes have been thrown away. */
  readonly payload: Buffer | undefined
}

export function encodeFrame(streamId: number, type: number, payload: Uint8Array, flags = 0): Buffer {
  const frame = Buffer.alloc(HEADER_BYTES + payload.length)
  frame.writeUInt32BE(payload.length, 0)
  frame.writeUInt32BE(streamId, 4)
  frame.writeUInt8(type, 8)
  frame.writeUInt8(flags, 9)
  frame.set(payload, HEADER_BYTES)
  return frame
}

/** The frames that come through a socket, until it ends. It is read no faster than the consumer takes them. */
export async function* readFrames(socket: Socket): AsyncIterable<Frame> {
  let chunks: Buffer[] = []
  let size = 0
  let header: Buffer | undefined // of the frame whose payload is awaited
  let skipped = 0 // bytes of an oversized payload that are gone already
  const take = (length: number): Buffer => {
    const all = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)
    chunks = [all.subarray(length)]
    size -= length
    return all.subarray(0, length)
  }
  for await (const chunk of socket) {
    chunks.push(chunk)
    size += chunk.length
    for (;;) {
      if (header === undefined) {
        if (size < HEADER_BYTES) break
        header = Buffer.from(take(HEADER_BYTES))
        skipped = 0
      }
      const length = header.readUInt32BE(0)
      const [streamId, type, flags] = [header.readUInt32BE(4), header.readUInt8(8), header.readUInt8(9)]
      if (length > MAX_FRAME_BYTES) {
        skipped += take(Math.min(size, length - skipped)).length
        if (skipped < length) break
        yield { streamId, type, flags, payload: undefined }
      } else {
        if (size < length) break
        yield { streamId, type, flags, payload: Buffer.from(take(length)) }
      }
      header = undefined
    }
  }
}
