/** Spans to a collector by the SDK of OpenTelemetry. It costs a process 12 MB and over 100 ms, so it is loaded only where one is configured. */

import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Span, TraceContext } from '@gantry/rpc/scope'
import { type Span as OtelSpan, ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import type { OpenTracer } from './tracer.ts'
import { VERSION } from './version.ts'

const FLUSH_MS = 1000 // between two reports
const TIMEOUT_MS = 10_000 // for one; what a collector does not take by then is lost
const END_MS = 2000 // at the end of a process: a collector that is away must not hold it up

/** @param options.url where the collector takes traces, such as `http://127.0.0.1:4318/v1/traces` */
export function createOtlpTracer(options: { app: string; url: string; ratio: number }): OpenTracer {
  const { app, url, ratio } = options
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': `gantry-${app}`,
      'service.version': VERSION,
      'process.pid': process.pid,
    }),
    sampler: new ParentBasedSampler({
      root: ratio < 1 ? new TraceIdRatioBasedSampler(ratio) : new AlwaysOnSampler(),
    }),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: new OTLPTraceExporter({ url, timeoutMillis: TIMEOUT_MS, httpAgentOptions: { keepAlive: false } }),
        scheduledDelayMillis: FLUSH_MS,
        exportTimeoutMillis: TIMEOUT_MS,
      }),
    ],
  })
  const tracer = provider.getTracer('gantry', VERSION)
  return {
    tracer: {
      start(name, { parent, serves, attributes }) {
        const kind = serves ? SpanKind.SERVER : SpanKind.INTERNAL
        const context = parent ? trace.setSpanContext(ROOT_CONTEXT, remote(parent)) : ROOT_CONTEXT
        return spanOf(tracer.startSpan(name, { kind, attributes }, context), parent?.state)
      },
    },
    async [Symbol.asyncDispose]() {
      const sent = provider.shutdown().catch(() => undefined)
      await Promise.race([sent, lastWait(url)])
    },
  }
}

/** As long as a report may take while the collector is there: on a busy machine the last one takes its time, too. */
async function lastWait(url: string): Promise<void> {
  const { hostname, port, protocol } = new URL(url)
  const socket = connect(Number(port) || (protocol === 'https:' ? 443 : 80), hostname.replace(/^\[|\]$/g, ''))
  const isThere = await Promise.race([
    once(socket, 'connect').then(
      () => true,
      () => false,
    ),
    sleep(END_MS, false, { ref: false }),
  ])
  socket.destroy()
  if (isThere) await sleep(TIMEOUT_MS, undefined, { ref: false })
}

function remote({ traceId, spanId, sampled }: TraceContext) {
  return { traceId, spanId, traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE, isRemote: true }
}

function spanOf(span: OtelSpan, state: string | undefined): Span {
  const { traceId, spanId, traceFlags } = span.spanContext()
  const sampled = (traceFlags & TraceFlags.SAMPLED) !== 0
  return {
    context: { traceId, spanId, sampled, ...(state !== undefined && { state }) },
    end(failure) {
      if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure })
      span.end()
    },
  }
}
