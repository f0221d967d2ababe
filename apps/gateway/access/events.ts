import { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { pathOf } from '@gantry/rpc/service'
import type { Asked } from '../events-service.ts'
import type { Caller } from './caller.ts'
import { denied } from './guard.ts'
import type { Rights } from './policy.ts'

/**
 * What a caller may do with events: subscriptions are not bound to a namespace, so that each event is looked at. They last,
 * so that the policy is asked at each.
 */
export function eventsWithin(now: () => Rights, caller: Caller): Asked {
  return {
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
