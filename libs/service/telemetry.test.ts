import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Status } from '@gantry/api/gantry/status/v1/status_pb'
import { createMetrics } from '@gantry/model/metric'
import { clientOf, connect } from '@gantry/rpc/client'
import { traced } from '@gantry/rpc/scope'
import { listen } from '@gantry/rpc/server'
import type { bind } from '@gantry/rpc/service'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { z } from 'zod'
import { parseConfig } from './config.ts'
import { serveMetrics } from './metrics-endpoint.ts'
import { statusBinding } from './status-service.ts'
import { openTelemetry, telemetryOfCalls } from './telemetry.ts'
import { openTracer } from './tracer.ts'

const log = pino({ level: 'silent' })
const signal = AbortSignal.timeout(20_000)
const TRACE = '0af7651916cd43dd8448eb211c80319c'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gantry-telemetry-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** A process that answers Status. */
async function startProcess(text = '', env: Readonly<Record<string, string>> = {}) {
  const stack = new AsyncDisposableStack()
  const options = { state: folder }
  const config = parseConfig('content', z.strictObject({}), { file: 'gantry.toml', text, options })
  const address = join(folder, 'content.sock')
  const telemetry = stack.use(await openTelemetry({ app: 'content', address }, config, { log, env }))
  const own = statusBinding('content', { bus: { server: undefined }, eventsBehind: () => 3 })
  const answers: ReturnType<typeof bind> = {
    ...own,
    handlerOf: (method) => {
      const handler = own.handlerOf(method)
      return (input, context) => traced('look', { where: 'here' }, async () => handler(input, context))
    },
  }
  stack.use(await listen({ address, bindings: [answers], telemetry: telemetry.calls, log }))
  const client = clientOf(Status, stack.use(connect(address)))
  return { client, telemetry, address, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

function read(from: { socketPath: string } | { host: string; port: number }, path = '/metrics', method = 'GET') {
  return new Promise<{ status: number | undefined; type: string | undefined; text: string }>((resolve, reject) => {
    const asked = request({ ...from, path, method }, async (answer) => {
      let text = ''
      for await (const chunk of answer.setEncoding('utf8')) text += chunk
      resolve({ status: answer.statusCode, type: answer.headers['content-type'], text })
    })
    asked.on('error', reject).end()
  })
}

test('a process tells how it is', async () => {
  await using node = await startProcess()

  const status = await node.client.get({}, { signal })

  expect(status).toMatchObject({ app: 'content', version: '0.1.0', pid: process.pid, eventsBehind: 3n })
  expect(status.bus).toBeUndefined()
  expect(Number(status.residentBytes)).toBeGreaterThan(10_000_000)
  expect(Date.now() - Number(status.startedMs)).toBeGreaterThan(0)
})

test('calls are counted, and whoever asks beside the socket reads the numbers', async () => {
  await using node = await startProcess()
  const socketPath = `${node.address}.metrics`

  await node.client.get({}, { signal })
  const labels = 'grpc_type="unary",grpc_service="gantry.status.v1.Status",grpc_method="Get"'
  const answer = await read({ socketPath })
  const again = await read({ socketPath }, '/v1/metrics?x=1')

  expect(answer).toMatchObject({ status: 200, type: 'text/plain; version=0.0.4; charset=utf-8' })
  expect(answer.text).toContain(`grpc_server_started_total{${labels}} 1\n`)
  expect(answer.text).toContain(`grpc_server_handled_total{${labels},grpc_code="OK"} 1\n`)
  expect(answer.text).toContain(`grpc_server_handling_seconds_count{${labels}} 1\n`)
  expect(answer.text).toMatch(/^process_resident_memory_bytes \d{8,}$/m)
  expect(answer.text).toMatch(/^gantry_build_info\{app="content",version="0.1.0",node="v24[^"]*"\} 1$/m)
  expect(again.status).toBe(200)
  expect(await read({ socketPath }, '/else')).toMatchObject({ status: 404 })
  expect(await read({ socketPath }, '/metrics', 'POST')).toMatchObject({ status: 405 })
})

test('calls are labelled as containerd labels them', () => {
  const metrics = createMetrics()
  const { of } = telemetryOfCalls(metrics, undefined)
  const codes = [0, 1, 2, 5, 9, 4]
  const { read, write } = Content.method

  for (const code of codes)
    of(read)
      .begin(() => undefined)
      .end(code)
  of(write)
    .begin(() => undefined)
    .end(0)

  const handled = [...metrics.render().matchAll(/^grpc_server_handled_total.*_type="(\w+)".*_code="(\w+)"/gm)]
  expect(handled.map(([, type, code]) => [type, code])).toEqual([
    ...['OK', 'Canceled', 'Unknown', 'NotFound', 'FailedPrecondition', 'DeadlineExceeded'].map((code) => [
      'server_stream',
      code,
    ]),
    ['bidi_stream', 'OK'],
  ])
})

test('a port of this machine is a matter of configuration, and any other is refused', async () => {
  const metrics = createMetrics()
  const tcp = { host: '127.0.0.1', port: 0 }
  await using endpoint = await serveMetrics({ socket: join(folder, 'metrics'), tcp, metrics, log })
  const configured = (text: string) =>
    parseConfig('content', z.strictObject({}), { file: 'gantry.toml', text, options: {} }).metrics.address

  expect(await read({ host: '127.0.0.1', port: endpoint.port ?? 0 })).toMatchObject({ status: 200 })
  expect(configured('[metrics]\ncontent = "[::1]:9640"\ntasks = "localhost:1"')).toEqual({ host: '::1', port: 9640 })
  expect(() => configured('[metrics]\ncontent = "0.0.0.0:9640"')).toThrow('must be a loopback address')
  expect(() => configured('[metrics]\ncontent = "127.0.0.1:99999"')).toThrow('must be a loopback address')
})

test('a number that cannot be read now costs who asks the answer, and nobody else anything', async () => {
  const metrics = createMetrics()
  let isThere = false
  metrics.read('gauge', { name: 'size', help: 'What is there.' }, () => {
    if (!isThere) throw new Error('EMFILE: too many open files')
    return 1
  })
  const socketPath = join(folder, 'metrics')
  await using _ = await serveMetrics({ socket: socketPath, tcp: undefined, metrics, log })

  const { status } = await read({ socketPath })
  isThere = true
  const { text } = await read({ socketPath })

  expect(status).toBe(500)
  expect(text).toContain('\nsize 1\n')
})

test('a traced call and its steps reach the collector as one trace, those of others do not', async () => {
  await using collector = await startCollector()
  await using node = await startProcess(`[trace]\nendpoint = "${collector.url}"`)
  const traceparent = (flags: string): string => `00-${TRACE}-b7ad6b7169203331-${flags}`
  await node.client.get({}, { signal, headers: { traceparent: traceparent('00') } })
  await node.client.get({}, { signal, headers: { traceparent: traceparent('01') } })

  const call = () => collector.spans().find(({ name }) => name === 'gantry.status.v1.Status/Get')
  await expect.poll(call, { timeout: 20_000 }).toBeDefined()

  expect(collector.spans().map(({ name, traceId, parentSpanId }) => [name, traceId, parentSpanId])).toEqual([
    ['look', TRACE, call()?.spanId],
    ['gantry.status.v1.Status/Get', TRACE, 'b7ad6b7169203331'],
  ])
  expect(collector.services()).toEqual(['gantry-content'])
}, 30_000)

test('the end of a process sends what is left', async () => {
  await using collector = await startCollector()
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
  {
    await using open = await openTracer('content', { endpoint: undefined, ratio: 1, env })
    open?.tracer.start('last', { parent: undefined, serves: false, attributes: {} }).end()
  }

  await expect.poll(() => collector.spans().map(({ name }) => name), { timeout: 20_000 }).toEqual(['last'])
}, 30_000)

test('without a collector nothing of the SDK is loaded, and the environment may name one', async () => {
  const none = { endpoint: undefined, ratio: 1 }

  expect(await openTracer('content', { ...none, env: {} })).toBeUndefined()
  const off = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_SDK_DISABLED: 'true' }
  expect(await openTracer('content', { ...none, env: off })).toBeUndefined()
  await using tracer = await openTracer('content', {
    ...none,
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' },
  })
  expect(tracer).toBeDefined()
})

test('a collector that is away does not hold up the end of a process', async () => {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }
  const open = await openTracer('content', { endpoint: undefined, ratio: 1, env })
  open?.tracer.start('last', { parent: undefined, serves: false, attributes: {} }).end()
  const start = performance.now()

  await open?.[Symbol.asyncDispose]()

  expect(performance.now() - start).toBeLessThan(8000) // sending would be tried for ten seconds
}, 30_000)

interface SpanOnWire {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string
}

/** Takes OTLP as JSON. */
async function startCollector() {
  const reports: {
    resourceSpans: {
      resource: { attributes: { key: string; value: { stringValue: string } }[] }
      scopeSpans: { spans: SpanOnWire[] }[]
    }[]
  }[] = []
  const server = createServer(async (asked, answer) => {
    let text = ''
    for await (const chunk of asked.setEncoding('utf8')) text += chunk
    if (asked.url === '/v1/traces') reports.push(JSON.parse(text))
    answer.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const address = server.address()
  const resources = () => reports.flatMap(({ resourceSpans }) => resourceSpans)
  return {
    url: `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`,
    spans: () => resources().flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)),
    services: () => [
      ...new Set(
        resources().map(
          ({ resource }) => resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue,
        ),
      ),
    ],
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
