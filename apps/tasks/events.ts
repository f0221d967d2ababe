import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  TaskCreateSchema,
  TaskDeleteSchema,
  TaskExecAddedSchema,
  TaskExecStartedSchema,
  TaskExitSchema,
  TaskOOMSchema,
  TaskPausedSchema,
  TaskResumedSchema,
  TaskStartSchema,
} from '@gantry/api/containerd/events/task_pb'
import type { MountSchema } from '@gantry/api/containerd/types/mount_pb'
import { toTimestamp, ZERO_TIME } from '@gantry/model/clock'
import type { Emit } from '@gantry/service/changes'
import type { Process, Task } from './registry.ts'
import { type Exit, type Life, pidOf } from './task.ts'

/** What tasks tell the world (behaviour facts, 9.5): one function an event, called inside the write it stands for. */
export const events = {
  created(task: Task, emit: Emit, rootfs: MessageInitShape<typeof MountSchema>[], pid: number): void {
    const io = task.init.stdio
    emit(task.namespace, '/tasks/create', TaskCreateSchema, {
      ...{ containerId: task.id, bundle: task.bundle.dir, rootfs, checkpoint: task.restore?.images ?? '', pid },
      io: { stdin: io.stdin, stdout: io.stdout, stderr: io.stderr, terminal: io.terminal },
    })
  },

  started({ task, execId }: Process, emit: Emit, pid: number): void {
    if (execId === '') emit(task.namespace, '/tasks/start', TaskStartSchema, { containerId: task.id, pid })
    else emit(task.namespace, '/tasks/exec-started', TaskExecStartedSchema, { containerId: task.id, execId, pid })
  },

  execAdded({ task, execId }: Process, emit: Emit): void {
    emit(task.namespace, '/tasks/exec-added', TaskExecAddedSchema, { containerId: task.id, execId })
  },

  /** The id of an exit is the exec's, and the container's for init. */
  exited({ task, execId, life }: Process, emit: Emit, exit: Exit): void {
    emit(task.namespace, '/tasks/exit', TaskExitSchema, {
      ...{ containerId: task.id, id: execId === '' ? task.id : execId, pid: pidOf(life) },
      ...{ exitStatus: exit.status, exitedAt: toTimestamp(exit.atMs) },
    })
  },

  deleted({ namespace, id, init: { life } }: Task, emit: Emit): void {
    emit(namespace, '/tasks/delete', TaskDeleteSchema, { containerId: id, pid: pidOf(life), ...exitOf(life) })
  },

  paused(task: Task, emit: Emit): void {
    emit(task.namespace, '/tasks/paused', TaskPausedSchema, { containerId: task.id })
  },

  resumed(task: Task, emit: Emit): void {
    emit(task.namespace, '/tasks/resumed', TaskResumedSchema, { containerId: task.id })
  },

  oom(task: Task, emit: Emit): void {
    emit(task.namespace, '/tasks/oom', TaskOOMSchema, { containerId: task.id })
  },
}

/** A process that has not ended has the zero time, never none: clients test for it. */
export function exitOf(life: Life) {
  if (life.status !== 'stopped') return { exitStatus: 0, exitedAt: ZERO_TIME }
  return { exitStatus: life.exit.status, exitedAt: toTimestamp(life.exit.atMs) }
}
