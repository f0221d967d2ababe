import { Introspection, type Plugin } from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import { Fault, isFault } from '@gantry/model/fault'
import { type Channel, type Client, clientOf } from '@gantry/rpc/client'
import type { Log } from '@gantry/rpc/log'
import type { Implementation } from '@gantry/rpc/service'

/** An owner that does not answer within this time is left out of the list. */
const ASK_MS = 2000

/** The owners to ask; each answers Introspection for itself. */
export interface Owners {
  readonly own: Implementation<typeof Introspection>
  readonly metadata: Channel
  readonly others: readonly Channel[]
  readonly log: Log
}

/**
 * containerd.services.introspection.v1.Introspection: the sum of what every process says of itself. The identity of the
 * node is kept by `metadata`.
 */
export function introspectionService({ own, metadata, others, log }: Owners): Implementation<typeof Introspection> {
  const identity = clientOf(Introspection, metadata)
  const owners = [metadata, ...others].map((channel) => clientOf(Introspection, channel))

  return {
    async plugins(request, context) {
      const mine = await own.plugins(request, context)
      const theirs = await Promise.all(owners.map((owner) => pluginsOf(owner, request.filters, context.signal, log)))
      return { plugins: [...theirs.flat(), ...(mine.plugins ?? [])] }
    },

    async server(_request, { signal }) {
      return { ...(await identity.server({}, { signal })), pid: BigInt(process.pid) }
    },

    async pluginInfo(request, { signal }) {
      for (const owner of owners) {
        try {
          return await owner.pluginInfo(request, { signal, waitMs: ASK_MS })
        } catch (error) {
          if (!isFault(error, 'not-found')) throw error
        }
      }
      throw new Fault('not-found', `plugin ${request.type}.${request.id}: not found`)
    },
  }
}

/** A bad filter fails the call; a process that is down only takes its own plugins out of the list. */
async function pluginsOf(
  owner: Client<typeof Introspection>,
  filters: string[],
  signal: AbortSignal,
  log: Log,
): Promise<Plugin[]> {
  try {
    return (await owner.plugins({ filters }, { signal, waitMs: ASK_MS, timeoutMs: ASK_MS * 2 })).plugins
  } catch (error) {
    if (!isFault(error, 'unavailable') && !isFault(error, 'deadline-exceeded')) throw error
    log.error({ reason: error.message }, 'A process is left out of the list of plugins')
    return []
  }
}
