import { setTimeout as sleep } from 'node:timers/promises'
import { create, toBinary } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { AnySchema } from '@bufbuild/protobuf/wkt'
import { DataSchema, WindowUpdateSchema } from '@gantry/api/containerd/types/transfer/streaming_pb'
import { Fault } from '@gantry/model/fault'
import { decode, encoded } from '@gantry/rpc/message'
import { abortable } from '@gantry/service/abortable'
import { type Chunk, createChunks } from '../chunks.ts'
import { typeNameOf } from './streaming-service.ts'
import type { Stream } from './streams.ts'

const GRANT = 512 * 1024 // bytes a sender is allowed at a time
const WINDOW = 1024 * 1024 // bytes it may be ahead of us
const MAX_DATA = 32 * 1024 // bytes of one message, as containerd sends them
const LARGE_WINDOW = 128 * 1024 // who allows more than containerd's clients do takes larger messages
const LARGE_DATA = 256 * 1024
const SETTLED = 64 * 1024 // bytes of window that a client always has in the end: below it, it allows more
const SETTLE_MS = 2000 // how long a client that allows less may hold up the end
const MAX_GRANTED = 64 * 1024 * 1024 // bytes of window we believe a receiver

type Pipe = Pick<Stream, 'send' | 'received'>

/**
 * The bytes a client sends over a stream, never more of them under way than we allowed. The end of what it sends is the
 * end of the bytes: nothing in the protocol says that they are complete, so whoever reads them has to know.
 *
 * @see behaviour facts, 15.1
 */
export async function* receiveBytes({ send, received }: Pipe, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (let window = 0; ; ) {
    for (; window < WINDOW; window += GRANT) await send(windowUpdate(GRANT))
    const next = await abortable(received.next(), signal)
    if (next.done) return
    if (typeNameOf(next.value.typeUrl) !== DataSchema.typeName) continue
    const { data } = decode(DataSchema, next.value.value)
    window = Math.max(0, window - data.length)
    if (data.length > 0) yield data
  }
}

/**
 * Sends bytes to a client as far as it allows them. Closing the stream is the caller's, and tells that they are complete.
 *
 * @throws {Fault} `cancelled` when the client hangs up before it has them all
 */
export async function sendBytes(
  { send, received }: Pipe,
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const window = openWindow(received)
  const small = createChunks(MAX_DATA)
  const large = createChunks(LARGE_DATA)
  for await (const bytes of chunks)
    for (let at = 0; at < bytes.length; ) {
      const allowed = await abortable(window.take(bytes.length - at), signal)
      const chunk = (allowed > MAX_DATA ? large : small).take(allowed)
      chunk.data.set(bytes.subarray(at, at + allowed))
      await abortable(send(dataMessage(chunk, allowed)), signal)
      at += allowed
    }
  await abortable(window.settled(), signal)
}

/** `Data` in an `Any`, as it is sent: to have them encoded would copy the bytes four times, into fresh memory. */
function dataMessage(chunk: Chunk, length: number) {
  const { typeUrl, value } = AnySchema.field
  const data = new BinaryWriter().tag(DataSchema.field.data.number, WireType.LengthDelimited).uint32(length).finish()
  const any = new BinaryWriter().tag(typeUrl.number, WireType.LengthDelimited).string(DataSchema.typeName)
  const head = any
    .tag(value.number, WireType.LengthDelimited)
    .uint32(data.length + length)
    .raw(data)
    .finish()
  return encoded(AnySchema, chunk.message(head, length), chunk.free)
}

/** Reads what the client allows while we send. */
function openWindow(received: Stream['received']) {
  let granted = 0
  let over = false
  let changed = Promise.withResolvers<void>()
  const change = (): void => {
    changed.resolve()
    changed = Promise.withResolvers<void>()
  }
  const read = async (): Promise<void> => {
    for (;;) {
      const next = await received.next()
      if (next.done) return
      if (typeNameOf(next.value.typeUrl) !== WindowUpdateSchema.typeName) continue
      const { update } = decode(WindowUpdateSchema, next.value.value)
      granted = Math.min(MAX_GRANTED, granted + Math.max(0, update))
      change()
    }
  }
  const end = (): void => {
    over = true
    change()
  }
  read().then(end, end)
  return {
    /** Waits for some window and takes `wish` bytes of it, or what there is. */
    async take(wish: number): Promise<number> {
      while (granted === 0) {
        if (over) throw new Fault('cancelled', 'Cannot send the archive: the client hung up')
        await changed.promise
      }
      const taken = Math.min(wish, granted, granted > LARGE_WINDOW ? LARGE_DATA : MAX_DATA)
      granted -= taken
      return taken
    },
    /**
     * Waits until the client has allowed all that it will, or is gone: what it sends to a stream that has ended makes it
     * take the end for a failure.
     */
    async settled(): Promise<void> {
      const late = sleep(SETTLE_MS, undefined, { ref: false }).then(end)
      while (granted < SETTLED && !over) await Promise.race([changed.promise, late])
    },
  }
}

function windowUpdate(update: number) {
  return {
    typeUrl: WindowUpdateSchema.typeName,
    value: toBinary(WindowUpdateSchema, create(WindowUpdateSchema, { update })),
  }
}
