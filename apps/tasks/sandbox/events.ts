import { create, isMessage } from '@bufbuild/protobuf'
import { SandboxCreateSchema, SandboxExitSchema, SandboxStartSchema } from '@gantry/api/containerd/events/sandbox_pb'
import { TaskCreateSchema, TaskExitSchema, TaskStartSchema } from '@gantry/api/containerd/events/task_pb'
import type { Emit } from '@gantry/service/changes'
import type { Write } from '../registry.ts'

/**
 * Writes for the tasks that sandboxes are to us: the world is told of sandboxes, in the same transaction. What else happens
 * to such a task is nobody's business.
 */
export function sandboxWrite(write: Write): Write {
  return (change) => write((emit) => change(tellOfSandboxes(emit)))
}

function tellOfSandboxes(emit: Emit): Emit {
  return (namespace, _topic, schema, init) => {
    const event = create(schema, init)
    if (isMessage(event, TaskCreateSchema))
      emit(namespace, '/sandboxes/create', SandboxCreateSchema, { sandboxId: event.containerId })
    if (isMessage(event, TaskStartSchema))
      emit(namespace, '/sandboxes/start', SandboxStartSchema, { sandboxId: event.containerId })
    if (isMessage(event, TaskExitSchema)) {
      const { containerId: sandboxId, exitStatus, exitedAt } = event
      emit(namespace, '/sandboxes/exit', SandboxExitSchema, { sandboxId, exitStatus, ...(exitedAt && { exitedAt }) })
    }
  }
}
