import { fromBinary } from '@bufbuild/protobuf'
import { TaskCheckpointedSchema, TaskOOMSchema } from '@gantry/api/containerd/events/task_pb'
import type { Events } from '@gantry/api/containerd/services/ttrpc/events/v1/events_pb'
import { parseNamespace } from '@gantry/model/namespace'
import type { Implementation } from '@gantry/rpc/service'
import type { Write } from '../registry.ts'

/** What only a shim can tell. Of all else we tell ourselves, with the record of it, so it is told once. */
const TOLD = { '/tasks/oom': TaskOOMSchema, '/tasks/checkpointed': TaskCheckpointedSchema } as const

/** containerd.services.events.ttrpc.v1.Events: where shims hand in what happened. */
export function eventsIntake(write: Write): Implementation<typeof Events> {
  return {
    async forward({ envelope }) {
      const { topic = '', event, namespace = '' } = envelope ?? {}
      if (event !== undefined && (topic === '/tasks/oom' || topic === '/tasks/checkpointed')) {
        const within = parseNamespace(namespace)
        const schema = TOLD[topic]
        const message = fromBinary(schema, event.value)
        await write((emit) => emit(within, topic, schema, message))
      }
      return {}
    },
  }
}
