/** A server of one handler on this machine, which ends with the test. */
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer, type ServerOptions } from 'node:https'

/**
 * @param atEnd calls what it is given when the test is over
 * @returns its host and port
 */
export async function startServer(
  atEnd: (close: () => void) => void,
  handler: RequestListener,
  tls?: ServerOptions,
  address = '127.0.0.1',
): Promise<string> {
  const server = tls ? createTlsServer(tls, handler) : createServer(handler)
  server.listen(0, address)
  await once(server, 'listening')
  atEnd(() => {
    server.closeAllConnections()
    server.close()
  })
  const bound = server.address()
  return `${address}:${typeof bound === 'object' ? bound?.port : ''}`
}
