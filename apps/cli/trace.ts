import type { Context } from './context.ts'

/** Commands that last as long as their user wants: a span of theirs would never be seen. */
const LASTING = new Set(['up', 'events'])

/**
 * Runs a command as one trace: its calls become parts of the trace that `TRACEPARENT` names, or of a new one, and a span of
 * its own goes to the collector of `OTEL_EXPORTER_OTLP_ENDPOINT`. Without either it is only run.
 *
 * @param name of the command
 */
export async function runTraced<T>(
  name: string | undefined,
  { env }: Pick<Context, 'env'>,
  work: () => Promise<T>,
): Promise<T> {
  const wanted = env.TRACEPARENT || env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
  if (!wanted || name === undefined || LASTING.has(name)) return await work()
  const [{ inScope, scopeOf }, { openTracer }] = await Promise.all([
    import('@gantry/rpc/scope'),
    import('@gantry/service/tracer'),
  ])
  const headers: Readonly<Record<string, string | undefined>> = {
    traceparent: env.TRACEPARENT,
    tracestate: env.TRACESTATE,
  }
  const scope = scopeOf((header) => headers[header])
  await using open = await openTracer('cli', { endpoint: undefined, ratio: 1, env })
  if (open === undefined) return await inScope(scope, work)
  const { tracer } = open
  const span = tracer.start(`gantry ${name}`, { parent: scope.trace, serves: false, attributes: {} })
  try {
    const result = await inScope({ ...scope, tracer, trace: span.context }, work)
    span.end()
    return result
  } catch (error) {
    span.end(error instanceof Error ? error.message : String(error))
    throw error
  }
}
