import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import type { NamespacePath } from '@gantry/client/spec-options'
import { Fault } from '@gantry/model/fault'
import { findContainer } from '../find-container.ts'
import { isShared } from './isolation.ts'
import type { RunOptions } from './options.ts'

/** What a container shares with others, as options say it: JSON. Their namespaces are found anew at each start. */
const SHARES = 'gantry/shares'

/** The label of a container that remembers with whom it shares namespaces. */
export function sharesLabel({ network, ipc, pid }: RunOptions): Record<string, string> {
  const shares = Object.entries({ network, ipc, pid }).filter(([, wanted]) => isShared(wanted))
  return shares.length > 0 ? { [SHARES]: JSON.stringify(Object.fromEntries(shares)) } : {}
}

/** Does it join namespaces of other containers, which only a command can find? */
export function sharesNamespaces({ labels }: Container): boolean {
  return labels[SHARES] !== undefined
}

/**
 * Before a container is started again: the process whose namespaces it joined may be gone, and another may have its pid.
 *
 * @throws {Fault} what `sharedNamespaces` says
 */
export async function joinAnew(client: GantryClient, { id, labels }: Container, signal: AbortSignal): Promise<void> {
  const text = labels[SHARES]
  if (text === undefined) return
  const found = Object.entries(await sharedNamespaces(client, JSON.parse(text), signal))
  const joins = Object.fromEntries(found.map(([type, { path }]) => [type, path]))
  await client.containers.update(id, { joins }, signal)
}

/**
 * The namespaces that `--net container:NAME` and the like mean: those that the container's first process has now.
 *
 * @throws {Fault} `not-found`, `failed-precondition` when it does not run, `invalid-argument` with a restart policy: what
 *   is found now may be somebody else's when the container is started again
 */
export async function sharedNamespaces(
  client: GantryClient,
  { network, ipc, pid, restart }: Pick<RunOptions, 'network' | 'ipc' | 'pid' | 'restart'>,
  signal: AbortSignal,
): Promise<Partial<Record<'network' | 'ipc' | 'pid', NamespacePath>>> {
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
