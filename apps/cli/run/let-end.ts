import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import { RESTART_STATUS } from '@gantry/model/restart'

/** Before a container is ended on purpose: it is not to be started again, whatever its policy. */
export async function letEnd(client: GantryClient, container: Container, signal: AbortSignal): Promise<void> {
  if (container.labels[RESTART_STATUS] === 'running') await client.containers.want(container.id, 'stopped', signal)
}
