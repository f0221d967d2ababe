import { chmod } from 'node:fs/promises'
import type { Server as HttpServer, IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import { Fault } from '@gantry/model/fault'
import type { Metrics } from '@gantry/model/metric'
import { claimSocket } from '@gantry/rpc/server'
import type { Logger } from 'pino'

const PATHS = new Set(['/metrics', '/v1/metrics']) // the second is containerd's
const TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** A port on this machine: nobody is asked who he is there. */
export interface LoopbackPort {
  readonly host: string
  readonly port: number
}

export interface MetricsEndpoint extends AsyncDisposable {
  /** Of `tcp`, when there is one. */
  readonly port: number | undefined
}

/**
 * Serves metrics over HTTP on a unix socket (0600), and on a loopback port when there is one. The HTTP server itself is
 * loaded by the first who asks: until then this is a socket.
 *
 * @throws {Fault} `failed-precondition` when somebody else listens there
 */
export async function serveMetrics(options: {
  socket: string
  tcp: LoopbackPort | undefined
  metrics: Metrics
  log: Logger
}): Promise<MetricsEndpoint> {
  const { socket, tcp, metrics, log } = options
  const greet = greeter((request, response) => answer({ metrics, log }, request, response))
  await claimSocket(socket)
  const local = await listening({ path: socket }, greet)
  await chmod(socket, 0o600)
  const remote = tcp && (await listening(tcp, greet))
  local.unref()
  remote?.unref()
  const address = remote?.address()
  const port = typeof address === 'object' ? address?.port : undefined
  if (port !== undefined) log.info({ port }, 'Metrics are served on a port')
  return {
    port,
    async [Symbol.asyncDispose]() {
      await Promise.all([local, remote].map((server) => server && closed(server)))
    },
  }
}

function answer(
  { metrics, log }: { metrics: Metrics; log: Logger },
  request: IncomingMessage,
  response: ServerResponse,
) {
  const path = request.url?.replace(/\?.*$/, '') ?? ''
  if (request.method !== 'GET' && request.method !== 'HEAD') return response.writeHead(405).end()
  if (!PATHS.has(path)) return response.writeHead(404).end('The metrics are at /metrics\n')
  try {
    const text = metrics.render()
    return response.writeHead(200, { 'content-type': TYPE, connection: 'close' }).end(text)
  } catch (err) {
    log.error({ err }, 'The metrics cannot be read') // out of descriptors, for one: just then somebody asks
    return response.writeHead(500).end('The metrics cannot be read now\n')
  }
}

/** Hands connections to an HTTP server that is made for the first of them. */
function greeter(listener: RequestListener): (socket: Socket) => void {
  let server: Promise<HttpServer> | undefined
  return (socket) => {
    socket.on('error', () => undefined) // the HTTP server hears of it too
    server ??= import('node:http').then((http) => http.createServer(listener))
    void server.then((http) => http.emit('connection', socket))
  }
}

function listening(where: { path: string } | LoopbackPort, greet: (socket: Socket) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer(greet)
    const place = 'path' in where ? where.path : `${where.host}:${where.port}`
    server.once('error', (cause) =>
      reject(new Fault('failed-precondition', `Cannot serve metrics on ${place}: ${cause.message}`, { cause })),
    )
    server.listen(where, () => resolve(server))
  })
}

/** Does not wait for who is being answered. */
function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close()
    resolve()
  })
}
