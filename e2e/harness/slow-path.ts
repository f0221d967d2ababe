import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { pipeline } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

/** A way to a server on this machine on which each connection brings at most so many bytes a second. */
export async function startSlowPath(to: string, bytesPerSecond: number): Promise<AsyncDisposable & { host: string }> {
  const sockets = new Set<Socket>()
  async function* slowed(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      yield chunk
      await sleep((chunk.length / bytesPerSecond) * 1000)
    }
  }
  const server = createServer((client) => {
    const upstream = connect(Number(to.split(':')[1]), '127.0.0.1')
    for (const socket of [client, upstream]) sockets.add(socket.on('close', () => sockets.delete(socket)))
    pipeline(client, upstream, () => upstream.destroy())
    pipeline(upstream, slowed, client, () => client.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return {
    host: `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
