import type { GantryClient } from '@gantry/client/client'
import type { NamespacePath, SpecOptions } from '@gantry/client/spec-options'
import { Fault } from '@gantry/model/fault'
import { findContainer } from '../find-container.ts'
import { isShared } from './isolation.ts'
import type { RunOptions } from './options.ts'

/**
 * The namespaces that `--net container:NAME` and the like mean: those that the container's first process has now.
 *
 * @throws {Fault} `not-found`, `failed-precondition` when it does not run, `invalid-argument` with a restart policy: what
 *   is found now may be somebody else's when the container is started again
 */
export async function sharedNamespaces(
  client: GantryClient,
  { network, ipc, pid, restart }: RunOptions,
  signal: AbortSignal,
): Promise<Pick<SpecOptions, 'network' | 'ipc' | 'pid'>> {
  if (restart !== undefined && [network, ipc, pid].some(isShared))
    throw new Fault('invalid-argument', 'Cannot use --restart with namespaces of another container')
  return {
    ...(isShared(network) && { network: await namespaceOf(client, network.container, 'net', signal) }),
    ...(isShared(ipc) && { ipc: await namespaceOf(client, ipc.container, 'ipc', signal) }),
    ...(isShared(pid) && { pid: await namespaceOf(client, pid.container, 'pid', signal) }),
  }
}

async function namespaceOf(
  client: GantryClient,
  name: string,
  kind: string,
  signal: AbortSignal,
): Promise<NamespacePath> {
  const { id } = await findContainer(client, name, signal)
  const task = (await client.tasks.list(signal)).find(({ containerId }) => containerId === id)
  if (task && task.status !== 'stopped') return { path: `/proc/${task.pid}/ns/${kind}` }
  throw new Fault('failed-precondition', `Cannot share the namespaces of "${name}": it is not running`)
}
