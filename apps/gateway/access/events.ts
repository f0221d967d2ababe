import { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { Fault } from '@gantry/model/fault'
import { pathOf } from '@gantry/rpc/service'
import type { Asked } from '../events-service.ts'
import type { Caller } from './caller.ts'
import { denied } from './guard.ts'
import type { Rights } from './policy.ts'

/** Subscriptions of one caller at once: what waits for those that do not read takes memory, up to 4 MB for each. */
const MAX_SUBSCRIPTIONS = 256

/** How many each has, by its name. */
const subscriptions = new Map<string, number>()

/**
 * What a caller may do with events: subscriptions are not bound to a namespace, so that each event is looked at. They last,
 * so that the policy is asked at each.
 */
export function eventsWithin(now: () => Rights, caller: Caller): Asked {
  const { name } = caller
  return {
    subscribe() {
      const others = subscriptions.get(name) ?? 0
      if (others >= MAX_SUBSCRIPTIONS && !now().everything)
        throw new Fault('resource-exhausted', `Cannot subscribe: ${name} has ${others} subscriptions already`)
      subscriptions.set(name, others + 1)
      return { [Symbol.dispose]: () => void subscriptions.set(name, (subscriptions.get(name) ?? 0) - 1) }
    },
    mayRead(namespace) {
      const rights = now()
      if (!rights.some.read) throw denied(caller, pathOf(Events.method.subscribe))
      return rights.may(namespace, 'read')
    },
    write(namespace) {
      if (!now().may(namespace, 'write')) throw denied(caller, pathOf(Events.method.publish), namespace)
    },
  }
}
