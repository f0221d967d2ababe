/** How gRPC puts messages into the bytes of an HTTP/2 stream: a flag, four bytes of length, the message. */
import { Fault } from '@gantry/model/fault'
import { MAX_MESSAGE_BYTES } from './message.ts'

const HEAD = 5 // bytes
/** The largest message that is framed in one piece. */
export const SMALL = 16 * 1024 // bytes: up to here a copy costs less than a second write

/** What stands before a message. */
export function headed(message: Uint8Array, room = HEAD): Buffer {
  const head = Buffer.allocUnsafe(room)
  head[0] = 0
  head.writeUInt32BE(message.length, 1)
  return head
}

/** The pieces to be written for one message. */
export function framed(message: Uint8Array): [Buffer, ...Uint8Array[]] {
  if (message.length > SMALL) return [headed(message), message]
  const all = headed(message, HEAD + message.length)
  all.set(message, HEAD)
  return [all]
}

/** Takes messages out of bytes as they come. */
export interface Unframer {
  /**
   * The messages that are complete now. They may be views of the bytes that came.
   * @throws {Fault} `resource-exhausted` for one that is too large, `unimplemented` for one that is compressed
   */
  push(chunk: Buffer): Buffer[]
  /** @throws {Fault} `internal` when a message is not complete */
  end(): void
}

export function createUnframer(): Unframer {
  let parts: Buffer[] = []
  let held = 0
  let wanted = HEAD // bytes until something can be done

  function join(): Buffer {
    const [first] = parts
    const joined = parts.length === 1 && first ? first : Buffer.concat(parts, held)
    parts = []
    return joined
  }

  return {
    push(chunk) {
      parts.push(chunk)
      held += chunk.length
      if (held < wanted) return []
      const messages: Buffer[] = []
      let rest = join()
      wanted = HEAD
      while (rest.length >= HEAD) {
        const size = sizeOf(rest)
        wanted = HEAD + size
        if (rest.length < wanted) break
        messages.push(rest.subarray(HEAD, wanted))
        rest = rest.subarray(wanted)
        wanted = HEAD
      }
      held = rest.length
      if (held > 0) parts.push(rest)
      return messages
    },
    end() {
      if (held > 0) throw new Fault('internal', 'The stream ended in the middle of a message')
    },
  }
}

function sizeOf(head: Buffer): number {
  if (head[0] !== 0) throw new Fault('unimplemented', 'Cannot read the message: it is compressed')
  const size = head.readUInt32BE(1)
  if (size > MAX_MESSAGE_BYTES)
    throw new Fault('resource-exhausted', `The message has ${size} bytes, ${MAX_MESSAGE_BYTES} are allowed`)
  return size
}
