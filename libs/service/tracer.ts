import type { Tracer } from '@gantry/rpc/scope'

/** Where spans go and how many traces are recorded. */
export interface TraceConfig {
  /** The base address of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`. */
  readonly endpoint: string | undefined
  /** The part of traces that begin here, from 0 to 1. Those that a caller has begun are recorded as it says. */
  readonly ratio: number
}

export interface OpenTracer extends AsyncDisposable {
  readonly tracer: Tracer
}

/**
 * The tracer of a process, or undefined when no collector is configured, neither here nor by `OTEL_EXPORTER_OTLP_ENDPOINT`:
 * then nothing of it is loaded.
 *
 * @param app becomes the service name, `gantry-<app>`
 */
export async function openTracer(
  app: string,
  { endpoint, ratio, env }: TraceConfig & { readonly env: Readonly<Record<string, string | undefined>> },
): Promise<OpenTracer | undefined> {
  if (env.OTEL_SDK_DISABLED === 'true') return undefined
  const url =
    tracesUrl(endpoint ?? (env.OTEL_EXPORTER_OTLP_ENDPOINT || undefined)) ?? env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
  if (!url) return undefined
  const { createOtlpTracer } = await import('./otlp.ts')
  return createOtlpTracer({ app, url, ratio })
}

function tracesUrl(endpoint: string | undefined): string | undefined {
  return endpoint === undefined ? undefined : `${endpoint.replace(/\/+$/, '')}/v1/traces`
}
