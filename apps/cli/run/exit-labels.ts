import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import type { Exit } from '@gantry/client/tasks'

const STATUS = 'gantry/exit-status'
const AT = 'gantry/exited-at'

/** Remembers how a container ended when its task is deleted, so that `ps -a` can still tell. */
export async function rememberExit(client: GantryClient, id: string, exit: Exit, signal: AbortSignal): Promise<void> {
  await client.services.containers.update(
    {
      container: { id, labels: { [STATUS]: String(exit.status), [AT]: exit.at.toISOString() } },
      updateMask: { paths: [`labels.${STATUS}`, `labels.${AT}`] },
    },
    client.call(signal),
  )
}

/** What was remembered; undefined when it never ended under our eyes. */
export function rememberedExit({ labels }: Container): Exit | undefined {
  const status = Number(labels[STATUS] ?? Number.NaN)
  const at = new Date(labels[AT] ?? Number.NaN)
  return Number.isInteger(status) && !Number.isNaN(at.getTime()) ? { status, at } : undefined
}
