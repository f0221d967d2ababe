import { Introspection, type Plugin } from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import { Fault, isFault } from '@gantry/model/fault'
import { type Channel, type Client, clientOf } from '@gantry/rpc/client'
import type { Log } from '@gantry/rpc/log'
import type { Implementation } from '@gantry/rpc/service'

/** How long an owner is waited for until it is there, and until it has answered. */
const PATIENCE = { waitMs: 2000, timeoutMs: 4000 }

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

    async pluginInfo(request, context) {
      const options = { signal: context.signal, ...PATIENCE }
      const asked = [own.pluginInfo(request, context), ...owners.map((owner) => owner.pluginInfo(request, options))]
      const answers = await Promise.allSettled(asked)
      for (const answer of answers) if (answer.status === 'fulfilled') return answer.value
      throw reasonOf(answers) ?? new Fault('not-found', `plugin ${request.type}.${request.id}: not found`)
    },
  }
}

/** What the one says that knows it; else that somebody is away who may. */
function reasonOf(answers: readonly PromiseSettledResult<unknown>[]): unknown {
  const reasons = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason] : []))
  const others = reasons.filter((reason) => !isFault(reason, 'not-found'))
  return others.find((reason) => !isAway(reason)) ?? others[0]
}

function isAway(error: unknown): error is Fault {
  return isFault(error, 'unavailable') || isFault(error, 'deadline-exceeded')
}

/** A bad filter fails the call; a process that is down only takes its own plugins out of the list. */
async function pluginsOf(
  owner: Client<typeof Introspection>,
  filters: string[],
  signal: AbortSignal,
  log: Log,
): Promise<Plugin[]> {
  try {
    return (await owner.plugins({ filters }, { signal, ...PATIENCE })).plugins
  } catch (error) {
    if (!isAway(error)) throw error
    log.error({ reason: error.message }, 'A process is left out of the list of plugins')
    return []
  }
}
