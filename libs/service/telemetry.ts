import type { DescMethod } from '@bufbuild/protobuf'
import { createMetrics, type Metrics, SECONDS } from '@gantry/model/metric'
import { type Attributes, type Scope, scopeOf, type Tracer } from '@gantry/rpc/scope'
import { nameOfCode } from '@gantry/rpc/status'
import type { Telemetry as CallsTelemetry, MethodTelemetry } from '@gantry/rpc/telemetry'
import type { Logger } from 'pino'
import type { SharedConfig } from './config.ts'
import { serveMetrics } from './metrics-endpoint.ts'
import { countProcess } from './process-metrics.ts'
import { openTracer } from './tracer.ts'

/** Asked for at every start and by every watcher: as spans they would be noise. */
const UNTRACED = 'grpc.health.v1.Health'
const CANCELLED = 1

/** What a process tells of itself: numbers on an endpoint of its own, and spans to a collector where one is configured. */
export interface Telemetry extends AsyncDisposable {
  /** What the process adds to those of its calls. */
  readonly metrics: Metrics
  /** For `listen` and `route`. */
  readonly calls: CallsTelemetry
}

/**
 * Begins to count, and serves the metrics beside the socket of the process.
 *
 * @param of.app     such as `content`
 * @param of.address the socket of the process
 * @throws {Fault} `failed-precondition` when the endpoint is taken
 */
export async function openTelemetry(
  of: { readonly app: string; readonly address: string },
  config: SharedConfig,
  { log, env }: { log: Logger; env: Readonly<Record<string, string | undefined>> },
): Promise<Telemetry> {
  const metrics = createMetrics()
  countProcess(metrics, of.app)
  await using opened = new AsyncDisposableStack()
  const tracer = opened.use(await openTracer(of.app, { ...config.trace, env }))
  opened.use(await serveMetrics({ socket: `${of.address}.metrics`, tcp: config.metrics.address, metrics, log }))
  const parts = opened.move()
  return {
    metrics,
    calls: telemetryOfCalls(metrics, tracer?.tracer),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

/** Counts calls by the names that Prometheus users of gRPC know, and makes each a span when there is a tracer. */
export function telemetryOfCalls(metrics: Metrics, tracer: Tracer | undefined): CallsTelemetry {
  const labels = ['grpc_type', 'grpc_service', 'grpc_method']
  const counting: Counting = {
    started: metrics.counter({ name: 'grpc_server_started_total', help: 'Calls that have begun.', labels }),
    handled: metrics.counter({
      ...{ name: 'grpc_server_handled_total', help: 'Calls that are over, by their code.' },
      labels: [...labels, 'grpc_code'],
    }),
    seconds: metrics.histogram({
      ...{ name: 'grpc_server_handling_seconds', help: 'From the start of a call to its end.', labels },
      bounds: SECONDS,
    }),
  }
  return { of: (method) => methodTelemetry(method, counting, tracer) }
}

interface Counting {
  readonly started: ReturnType<Metrics['counter']>
  readonly handled: ReturnType<Metrics['counter']>
  readonly seconds: ReturnType<Metrics['histogram']>
}

function methodTelemetry(method: DescMethod, counting: Counting, tracer: Tracer | undefined): MethodTelemetry {
  const service = method.parent.typeName
  const labels = [method.methodKind.replace('streaming', 'stream'), service, method.name]
  const count = later(() => ({ started: counting.started(...labels), seconds: counting.seconds(...labels) }))
  const codes = new Map<number, ReturnType<Counting['handled']>>()
  const recorder = service === UNTRACED ? undefined : tracer

  function over(code: number, from: number): void {
    const known = codes.get(code) ?? counting.handled(...labels, goNameOf(code))
    codes.set(code, known)
    known.add()
    count().seconds.observe((performance.now() - from) / 1000)
  }

  return {
    begin(header) {
      const from = performance.now()
      count().started.add()
      const incoming = scopeOf(header)
      if (recorder === undefined) return { scope: incoming, end: (code) => over(code, from) }
      const attributes = attributesOf(method, incoming, header('containerd-namespace'))
      const span = recorder.start(`${service}/${method.name}`, { parent: incoming.trace, serves: true, attributes })
      return {
        scope: { requestId: incoming.requestId, trace: span.context, tracer: recorder },
        end(code) {
          over(code, from)
          span.end(code === 0 ? undefined : nameOfCode(code))
        },
      }
    },
  }
}

function attributesOf(method: DescMethod, { requestId }: Scope, namespace: string | undefined): Attributes {
  return {
    'rpc.system': 'grpc',
    'rpc.service': method.parent.typeName,
    'rpc.method': method.name,
    'gantry.request_id': requestId,
    ...(namespace !== undefined && { 'containerd.namespace': namespace }),
  }
}

/** What Go calls a code, such as `NotFound`, and with it everybody who counts calls. */
function goNameOf(code: number): string {
  if (code <= CANCELLED) return code === CANCELLED ? 'Canceled' : 'OK'
  return nameOfCode(code).replace(/([A-Z])([A-Z]*)_?/g, (_, first: string, rest: string) => first + rest.toLowerCase())
}

/** Made when first needed: most methods of a process are never called. */
function later<T>(make: () => T): () => T {
  let made: T | undefined
  return () => {
    made ??= make()
    return made
  }
}
