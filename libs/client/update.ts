import { cpus } from 'node:os'
import { Fault, ignoring } from '@gantry/model/fault'
import { EXPLICITLY_STOPPED, parseRestartPolicy, RESTART_POLICY, RESTART_STATUS } from '@gantry/model/restart'
import { packJson } from './any.ts'
import { isLive, toInfo } from './process.ts'
import type { Resources } from './spec-options.ts'
import { readJson } from './spec-parse.ts'
import { resourcesOf } from './spec-resources.ts'
import type { Wire } from './wire.ts'

/** What of a container may change while it runs. What is left out stays as it is. */
export interface UpdateContainer {
  readonly limits?: Omit<Resources, 'rlimits'>
  /** As for a new one, or `no`. Counts from now on when it runs, else from its next start. */
  readonly restart?: string
  /** Paths of the namespaces that it joins from its next start on, by their type, in the place of others it was to join. */
  readonly joins?: Readonly<Record<string, string>>
}

/** First what runs, then the record, which counts at the next start. */
export async function updateContainer(
  wire: Wire,
  id: string,
  { limits = {}, restart, joins = {} }: UpdateContainer,
  signal: AbortSignal,
): Promise<void> {
  const { containers, tasks } = wire.services
  const { container } = await containers.get({ id }, wire.call(signal))
  const process = (await ignoring('not-found', tasks.get({ containerId: id }, wire.call(signal))))?.process
  const lives = process !== undefined && isLive(toInfo(process).status)
  const resources = resourcesOf(limits, cpus().length)
  const labels = restart === undefined ? {} : labelsOf(restart, lives)
  const paths = Object.keys(labels).map((name) => `labels.${name}`)
  const isLimited = Object.keys(resources).length > 0
  const changes = isLimited || Object.keys(joins).length > 0
  const spec = changes ? withChanges(id, container?.spec, { resources, joins }) : undefined
  if (isLimited && lives)
    await tasks.update({ containerId: id, resources: packJson('LinuxResources', resources) }, wire.call(signal))
  const updateMask = { paths: spec ? [...paths, 'spec'] : paths }
  if (updateMask.paths.length === 0) return
  await containers.update({ container: { id, labels, ...(spec && { spec }) }, updateMask }, wire.call(signal))
}

function labelsOf(restart: string, lives: boolean): Record<string, string> {
  const { name } = parseRestartPolicy(restart)
  const wanted = lives && name !== 'no'
  return {
    [RESTART_POLICY]: restart,
    ...(wanted && { [RESTART_STATUS]: 'running', [EXPLICITLY_STOPPED]: 'false' }),
  }
}

function withChanges(
  id: string,
  packed: { value: Uint8Array } | undefined,
  { resources, joins }: { resources: Record<string, object>; joins: Readonly<Record<string, string>> },
) {
  const spec = packed && readJson(packed.value)
  if (!isObject(spec)) throw new Fault('failed-precondition', `Cannot update "${id}": its spec cannot be read`)
  const linux = isObject(spec.linux) ? spec.linux : {}
  const before = isObject(linux.resources) ? linux.resources : {}
  const after = Object.entries(resources).map(([name, values]) => {
    const old = before[name]
    return [name, { ...(isObject(old) && old), ...values }]
  })
  const merged = { ...before, ...Object.fromEntries(after) }
  const namespaces =
    Array.isArray(linux.namespaces) &&
    linux.namespaces.filter(isObject).map((one) => {
      const path = joins[String(one.type)]
      return path === undefined ? one : { ...one, path }
    })
  return packJson('Spec', { ...spec, linux: { ...linux, ...(namespaces && { namespaces }), resources: merged } })
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
