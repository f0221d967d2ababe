import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import { Fault, ignoring } from '@gantry/model/fault'

const SHORT_ID = 12
const RANDOM_ID = /^[0-9a-f]{64}$/

/**
 * The container that is meant: by its name, or by the beginning of its id when no other begins like it.
 *
 * @throws {Fault} `not-found`, `invalid-argument` when several match
 */
export async function findContainer(client: GantryClient, name: string, signal: AbortSignal): Promise<Container> {
  const exact = /^[\w.-]{1,76}$/.test(name)
    ? await ignoring('not-found', client.containers.get(name, signal))
    : undefined
  if (exact) return exact
  const [first, second] = (await client.containers.list([], signal)).filter(
    ({ id }) => name !== '' && id.startsWith(name),
  )
  if (!first)
    throw new Fault('not-found', `Cannot find container "${name}": namespace ${client.namespace} has none of that name`)
  if (second)
    throw new Fault('invalid-argument', `Cannot choose container "${name}": ${first.id} and ${second.id} match`)
  return first
}

/** An id as it is shown: a random one is cut to 12 digits, a name stays whole. */
export function shortId(id: string): string {
  return RANDOM_ID.test(id) ? id.slice(0, SHORT_ID) : id
}
