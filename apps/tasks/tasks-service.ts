import { create, toBinary } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import type { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import type { Tasks as TasksDescriptor } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { CheckpointOptionsSchema, ProcessDetailsSchema } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { Status } from '@gantry/api/containerd/types/task/task_pb'
import { Fault } from '@gantry/model/fault'
import { fieldsOf, parseFilters } from '@gantry/model/filter'
import { parseIdentifier } from '@gantry/model/identifier'
import type { Client } from '@gantry/rpc/client'
import { decode } from '@gantry/rpc/message'
import type { Implementation } from '@gantry/rpc/service'
import type { createCheckpoints } from './checkpoint.ts'
import { exitOf } from './events.ts'
import { readMetrics } from './metrics.ts'
import { fromRecord, type RecordParts } from './record.ts'
import type { Process } from './registry.ts'
import { type createRestores, removeImages } from './restore.ts'
import type { CheckpointWish } from './runtime/checkpoint.ts'
import { criuPathsOf } from './runtime/resolve.ts'
import { type Life, pidOf } from './task.ts'
import type { Tasks } from './tasks.ts'

const STATUS: Record<Life['status'], Status> = {
  added: Status.CREATED,
  failed: Status.CREATED,
  created: Status.CREATED,
  running: Status.RUNNING,
  paused: Status.PAUSED,
  stopped: Status.STOPPED,
}

export interface TasksServiceParts {
  readonly tasks: Tasks
  /** Makes checkpoints into content. */
  readonly checkpoint: ReturnType<typeof createCheckpoints>
  /** Finds what a task is to go on from. */
  readonly restoreOf: ReturnType<typeof createRestores>
  /** Who keeps the container records; Create needs it, and Checkpoint without a folder. */
  readonly containers: Client<typeof Containers>
  readonly runtimes: RecordParts
}

/** containerd.services.tasks.v1.Tasks: parse the request, ask `tasks`, shape the reply (behaviour facts, 9). */
export function tasksService(parts: TasksServiceParts): Implementation<typeof TasksDescriptor> {
  const { tasks } = parts
  return {
    create: (request, context) => createTask(parts, request, context),

    async start({ containerId, execId }, { namespace }) {
      return { pid: await tasks.start(namespace, containerId, execId) }
    },

    async delete({ containerId }, { namespace }) {
      const { life } = await tasks.deleteTask(namespace, containerId)
      return { id: '', pid: pidOf(life), ...exitOf(life) }
    },

    async deleteProcess({ containerId, execId }, { namespace }) {
      if (execId === '') throw new Fault('invalid-argument', 'Cannot delete a process without its exec id')
      const exec = await tasks.deleteExec(namespace, containerId, execId)
      return { id: execId, pid: pidOf(exec.life), ...exitOf(exec.life) }
    },

    async get({ containerId, execId }, { namespace }) {
      return { process: toWire(tasks.find(namespace, containerId, execId)) }
    },

    async list(_request, { namespace }) {
      return { tasks: tasks.list(namespace).map(toWire) }
    },

    async kill({ containerId, execId, signal, all }, { namespace }) {
      await tasks.kill(namespace, containerId, execId, { signal, all })
      return {}
    },

    async exec({ containerId, execId, spec, stdin, stdout, stderr, terminal }, { namespace }) {
      parseIdentifier(execId, 'exec id')
      const process = textOf(spec, 'a process')
      await tasks.exec(namespace, containerId, execId, { spec: process, stdio: { stdin, stdout, stderr, terminal } })
      return {}
    },

    async resizePty({ containerId, execId, width, height }, { namespace }) {
      await tasks.resize(namespace, containerId, execId, { columns: width, rows: height })
      return {}
    },

    async closeIO({ containerId, execId, stdin }, { namespace }) {
      if (stdin) await tasks.closeInput(namespace, containerId, execId)
      else tasks.find(namespace, containerId, execId)
      return {}
    },

    async pause({ containerId }, { namespace }) {
      await tasks.pause(namespace, containerId)
      return {}
    },

    async resume({ containerId }, { namespace }) {
      await tasks.resume(namespace, containerId)
      return {}
    },

    async listPids({ containerId }, { namespace }) {
      const processes = await tasks.pids(namespace, containerId)
      return { processes: processes.map(({ pid, execId }) => ({ pid, ...detailsOf(execId) })) }
    },

    async update({ containerId, resources }, { namespace }) {
      await tasks.update(namespace, containerId, textOf(resources, 'resources'))
      return {}
    },

    async wait({ containerId, execId }, { namespace, signal }) {
      const { life } = await tasks.wait(namespace, containerId, execId, signal)
      return exitOf(life)
    },

    checkpoint: (request, context) => checkpointTask(parts, request, context),

    metrics: async ({ filters }, { namespace }) => ({ metrics: metricsOf(tasks, namespace, filters) }),
  }
}

const createTask = async (
  { tasks, restoreOf, containers, runtimes }: TasksServiceParts,
  request: Parameters<Implementation<typeof TasksDescriptor>['create']>[0],
  { namespace, signal }: Parameters<Implementation<typeof TasksDescriptor>['create']>[1],
) => {
  const { containerId, rootfs, stdin, stdout, stderr, terminal, checkpoint } = request
  const { container } = await containers.get({ id: containerId }, { namespace, signal })
  if (container === undefined) throw new Fault('not-found', `container "${containerId}": not found`)
  const { runtimePath: path, options, taskApiAddress: address, taskApiVersion: version } = request
  const paths = criuPathsOf(options)
  const isRestored = checkpoint !== undefined || paths.images !== ''
  const runtime = { path, options, address, version, isRestored }
  const wish = { namespace, rootfs, stdio: { stdin, stdout, stderr, terminal }, runtime }
  const made = fromRecord(runtimes, container, wish)
  const restore = isRestored ? await restoreOf(made.runtime, { checkpoint, paths }, { namespace, signal }) : undefined
  try {
    return { containerId, pid: await tasks.create(namespace, containerId, { ...made, restore }) }
  } catch (error) {
    removeImages(restore)
    throw error
  }
}

const checkpointTask = async (
  { tasks, containers, checkpoint }: TasksServiceParts,
  { containerId: id, options }: Parameters<Implementation<typeof TasksDescriptor>['checkpoint']>[0],
  { namespace, lease, signal }: Parameters<Implementation<typeof TasksDescriptor>['checkpoint']>[1],
) => {
  const wish = checkpointWishOf(options)
  if (wish.imagePath !== '') {
    await tasks.checkpoint(namespace, id, wish)
    return { descriptors: [] } // the client has named the folder
  }
  const { container } = await containers.get({ id }, { namespace, signal })
  const request = { namespace, id, wish, spec: container?.spec }
  return { descriptors: await checkpoint(request, { namespace, lease, signal }) }
}

function metricsOf(tasks: Tasks, namespace: string, filters: readonly string[]) {
  const wanted = parseFilters(filters)
  const inits = tasks
    .list(namespace)
    .filter(({ execId, task: { id } }) => execId === '' && wanted(fieldsOf({ id, namespace })))
  return inits.flatMap(({ task }) => readMetrics(task.id, task.cgroup, Date.now()) ?? [])
}

function toWire({ task, execId, stdio, life }: Process) {
  return {
    ...{ containerId: task.id, id: execId === '' ? task.id : execId, pid: pidOf(life) },
    status: execId !== '' && life.status === 'running' ? STATUS[task.init.life.status] : STATUS[life.status],
    ...stdio,
    ...exitOf(life),
  }
}

/** Only the first process of an exec has details. */
function detailsOf(execId: string | undefined) {
  if (execId === undefined) return {}
  const value = toBinary(ProcessDetailsSchema, create(ProcessDetailsSchema, { execId }))
  return { info: { typeUrl: ProcessDetailsSchema.typeName, value } }
}

/** @throws {Fault} `invalid-argument` for options of another kind */
function checkpointWishOf(options: Any | undefined): CheckpointWish {
  if (options === undefined || options.typeUrl === '') return create(CheckpointOptionsSchema)
  if (!options.typeUrl.endsWith(CheckpointOptionsSchema.typeName))
    throw new Fault('invalid-argument', `Cannot checkpoint with options of type "${options.typeUrl}"`)
  return decode(CheckpointOptionsSchema, options.value)
}

/** The JSON in an Any whose type is one of the runtime specification's. @param what names it in the message */
function textOf(any: Any | undefined, what: string): string {
  if (any === undefined) throw new Fault('invalid-argument', `Cannot do without ${what}`)
  return new TextDecoder().decode(any.value)
}
