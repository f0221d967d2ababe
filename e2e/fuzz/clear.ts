/** Takes everything out of a node, in all its namespaces, by the API. */
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { createClient } from '@gantry/client/client'
import { ignoring } from '@gantry/model/fault'
import { type CallOptions, clientOf, connect } from '@gantry/rpc/client'
import { until } from '../harness/daemon.ts'

const SIGKILL = 9
const CLEAR_MS = 120_000
const WITHIN_MS = 60_000 // each of its parts, on a busy machine
const SNAPSHOTTERS = ['overlayfs', 'native']

/** @throws when something cannot be taken away */
export async function clear(address: string): Promise<void> {
  await using client = createClient({ address, namespace: 'default' })
  const signal = AbortSignal.timeout(CLEAR_MS)
  const { namespaces } = await client.services.namespaces.list({}, { signal })
  for (const { name } of namespaces) await clearNamespace(client.services, address, { namespace: name, signal })
}

type Services = ReturnType<typeof createClient>['services']

async function clearNamespace(services: Services, address: string, call: CallOptions): Promise<void> {
  const { tasks, containers, images, leases, content, snapshots, namespaces } = services
  await using channel = connect(address)
  const [mounts, sandboxes] = [clientOf(Mounts, channel), clientOf(Store, channel)]
  for (const { id } of (await containers.list({}, call)).containers)
    await containers.update({ container: { id }, updateMask: { paths: ['labels'] } }, call).catch(() => undefined)
  for (const { containerId } of (await tasks.list({}, call)).tasks) await endTask(tasks, containerId, call)
  for (const { id } of (await containers.list({}, call)).containers) await gone(containers.delete({ id }, call))
  for (const { name } of (await images.list({}, call)).images) await gone(images.delete({ name }, call))
  for (const { id } of (await leases.list({}, call)).leases) await gone(leases.delete({ id }, call))
  for (const sandboxId of sandboxesOf(address, call.namespace ?? ''))
    await clientOf(Controller, channel).shutdown({ sandboxId, sandboxer: 'shim' }, call)
  const records = await ignoring('unimplemented', sandboxes.list({}, call))
  for (const { sandboxId } of records?.list ?? []) await sandboxes.delete({ sandboxId }, call)
  const active = await ignoring('unimplemented', Array.fromAsync(mounts.list({}, call)))
  for (const { info } of active ?? []) await gone(mounts.deactivate({ name: info?.name ?? '' }, call))
  for (const { ref } of (await content.listStatuses({}, call)).statuses)
    await content.abort({ ref }, call).catch(() => undefined)
  for await (const { info } of content.list({}, call))
    for (const { digest } of info) await content.delete({ digest }, call).catch(() => undefined)
  for (const snapshotter of SNAPSHOTTERS) await removeSnapshots(snapshots, snapshotter, call)
  await namespaces.delete({ name: call.namespace ?? '' }, call)
}

/** Some things go with others, or are collected meanwhile. */
const gone = (removal: Promise<unknown>) => ignoring('not-found', removal)

/** No call lists the sandboxes that run. */
function sandboxesOf(address: string, namespace: string): string[] {
  const bundles = join(dirname(address), 'sandboxes', 'bundles', namespace)
  return existsSync(bundles) ? readdirSync(bundles) : []
}

/** Ends a task, whatever state it is in. */
export async function endTask(tasks: Services['tasks'], containerId: string, call: CallOptions): Promise<void> {
  const isGone = async () => {
    await tasks.resume({ containerId }, call).catch(() => undefined)
    await tasks.kill({ containerId, signal: SIGKILL, all: true }, call).catch(() => undefined)
    return tasks.delete({ containerId }, call).then(
      () => true,
      ({ code }) => code === 'not-found',
    )
  }
  await until(`the task of ${containerId} is gone`, isGone, { withinMs: WITHIN_MS })
}

/** Children before their parents: whatever is left has one. */
async function removeSnapshots(
  snapshots: Services['snapshots'],
  snapshotter: string,
  call: CallOptions,
): Promise<void> {
  const areGone = async () => {
    const names: string[] = []
    for await (const { info } of snapshots.list({ snapshotter }, call)) names.push(...info.map(({ name }) => name))
    for (const key of names) await snapshots.remove({ snapshotter, key }, call).catch(() => undefined)
    return names.length === 0
  }
  await until(`the snapshots of ${snapshotter} are gone`, areGone, { withinMs: WITHIN_MS })
}
