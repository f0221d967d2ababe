import type { Socket } from 'node:net'
import { buildConnector } from 'undici'

const READ_BYTES = 256 * 1024

/**
 * Connects as undici does, but a connection reads everything into one buffer. A fresh one for every 64 KiB, which is what
 * sockets do otherwise, takes more time to make and to collect than to receive what is in it.
 *
 * What is read is good until the reader returns: undici's parser is done with it by then, and puts back a copy of what it
 * wants to see again.
 */
export function connector(options: buildConnector.BuildOptions): buildConnector.connector {
  return (target, callback) => {
    let socket: Socket | undefined
    const onread = {
      buffer: Buffer.allocUnsafeSlow(READ_BYTES),
      callback: (size: number, buffer: Uint8Array) => socket?.push(buffer.subarray(0, size)) ?? false,
    }
    const onePiece = { highWaterMark: undefined, readableHighWaterMark: 1 } // until it is taken, nothing more is read
    const connect = buildConnector({ ...options, ...onePiece, onread })
    connect(target, (error, connected) => {
      if (error) return callback(error, null)
      socket = connected
      const { unshift } = connected
      connected.unshift = (chunk) => unshift.call(connected, Buffer.from(chunk))
      callback(null, connected)
    })
  }
}
