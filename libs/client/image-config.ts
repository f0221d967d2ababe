import type { Digest } from '@gantry/model/digest'

/** What an image says of its containers, changed. What is undefined stays; what is empty goes. */
export interface ConfigChange {
  readonly cmd?: readonly string[]
  readonly entrypoint?: readonly string[]
  /** Entries `KEY=value`, each in place of the one of its key. */
  readonly env?: readonly string[]
  readonly workingDir?: string
  readonly user?: string
  readonly labels?: Readonly<Record<string, string>>
  /** Such as `80/tcp`. */
  readonly exposedPorts?: readonly string[]
}

/** A layer on top, and what is said of it. */
export interface NewLayer {
  readonly diffId: Digest
  readonly created: Date
  readonly createdBy: string
  readonly author?: string | undefined
  readonly comment?: string | undefined
  readonly change: ConfigChange
}

/**
 * The config of an image with one layer more. What we do not know of it stays as it is.
 *
 * @param base a config that was read without a fault before
 * @param height how many of its layers stay, from the lowest on
 * @see https://github.com/opencontainers/image-spec/blob/main/config.md
 */
export function configWithLayer(base: Uint8Array, height: number, layer: NewLayer): Buffer {
  const document = recordOf(JSON.parse(Buffer.from(base).toString()))
  const { diffId, createdBy, author, comment } = layer
  const created = layer.created.toISOString()
  const step = { created, created_by: createdBy, ...(author && { author }), ...(comment && { comment }) }
  const diffIds = listOf(recordOf(document.rootfs).diff_ids).slice(0, height)
  return Buffer.from(
    JSON.stringify({
      ...document,
      created,
      ...(author && { author }),
      config: changed(recordOf(document.config), layer.change),
      rootfs: { type: 'layers', diff_ids: [...diffIds, diffId] },
      history: [...historyOf(listOf(document.history).map(recordOf), height), step],
    }),
  )
}

/** The steps that made so many layers. Readers count them, so that those of whom nothing is said have a step, too. */
function historyOf(history: readonly Record<string, unknown>[], height: number): Record<string, unknown>[] {
  const steps: Record<string, unknown>[] = []
  let layers = 0
  for (const step of history) {
    if (step.empty_layer !== true && layers++ === height) break
    steps.push(step)
  }
  return [...Array.from({ length: Math.max(0, height - layers) }, () => ({})), ...steps]
}

function changed(config: Record<string, unknown>, change: ConfigChange): Record<string, unknown> {
  const { cmd, entrypoint, env, workingDir, user, labels, exposedPorts } = change
  return {
    ...config,
    ...(entrypoint && { Entrypoint: entrypoint, Cmd: [] }), // what it was given before was for another program
    ...(cmd && { Cmd: cmd }),
    ...(env && { Env: [...byKey([...listOf(config.Env).map(String), ...env]).values()] }),
    ...(workingDir !== undefined && { WorkingDir: workingDir }),
    ...(user !== undefined && { User: user }),
    ...(labels && { Labels: { ...recordOf(config.Labels), ...labels } }),
    ...(exposedPorts && {
      ExposedPorts: { ...recordOf(config.ExposedPorts), ...Object.fromEntries(exposedPorts.map((port) => [port, {}])) },
    }),
  }
}

function byKey(env: readonly string[]): Map<string, string> {
  return new Map(env.map((entry) => [entry.split('=', 1)[0] ?? '', entry]))
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}
