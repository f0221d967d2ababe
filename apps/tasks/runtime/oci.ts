import { closeSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { borrowFd, identify, isAlive, type ProcessId, sendSignal } from '@gantry/linux/process'
import { isSystemError } from '@gantry/linux/system'
import { setWindowSize } from '@gantry/linux/tty'
import { Fault } from '@gantry/model/fault'
import { makeExecFolder, makeProcessFolder } from '../bundle.ts'
import { pidsOf } from '../cgroup.ts'
import { killGroup } from '../kill-group.ts'
import { checkpointContainer } from './checkpoint.ts'
import { createHost } from './choose.ts'
import type { Exits } from './exits.ts'
import { createHurry } from './hurry.ts'
import { discard, launch } from './launch.ts'
import { stopLogger } from './logger.ts'
import { createReach } from './reach.ts'
import { type ChildEnvironment, runRuntime } from './runc.ts'
import type { Runtime, RuntimeTask, TaskStatus } from './runtime.ts'
import { deleteDirectly, startDirectly } from './shortcut.ts'

const DRAIN_MS = 10_000 // how long output may take to reach the client, as in containerd
const DRAIN_STEP_MS = 10
const SIGKILL = 9

export interface OciParts {
  /** The state folder of Gantry: sockets for terminals go there. */
  readonly state: string
  readonly env: ChildEnvironment
  readonly exits: Exits
  /** The path of conmon. @throws {Fault} `failed-precondition` when it is not installed */
  readonly conmon: () => string
}

/** Containers by an OCI runtime, each process under a conmon of its own. */
export function createOciRuntime(parts: OciParts): Runtime {
  const { env, exits } = parts
  const commanding = { env, reach: createReach(createHost(env.PATH)) }
  const starting = { ...parts, ...commanding, hurry: createHurry() }
  const command = (task: RuntimeTask, ...args: [string, ...string[]]) => runRuntime(task.runtime, args, commanding)
  return {
    create: (process) => launch(starting, process, { verb: 'create' }),
    exec(process, spec) {
      const processFile = makeExecFolder(process.task.bundle.processDir(process.execId), spec)
      return launch(starting, process, { verb: 'exec', processFile })
    },
    async start(task) {
      if (!(await startDirectly(task))) await command(task, 'start', task.id)
    },
    prepare: async () => undefined,
    async restore(process, from) {
      const { task } = process
      const folder = task.bundle.processDir('')
      discard(folder)
      await command(task, 'delete', '--force', task.id)
      makeProcessFolder(folder)
      return launch(starting, process, { verb: 'restore', from })
    },
    kill: async (_process, live, signal) => signalProcess(live.process, signal),
    async killAll(task, live, signal) {
      if (task.cgroup === null) signalProcess(live.process, signal)
      else if (signal === SIGKILL) await killGroup(task.cgroup)
      else for (const pid of pidsOf(task.cgroup)) signalProcess(identify(pid), signal)
    },
    async pause(task) {
      await command(task, 'pause', task.id)
    },
    async resume(task) {
      await command(task, 'resume', task.id)
    },
    async update(task, resources) {
      const path = join(task.bundle.processDir(''), 'resources.json') // crun reads no pipe
      writeFileSync(path, resources, { mode: 0o600 })
      await command(task, 'update', '--resources', path, task.id)
    },
    checkpoint: (task, wish) => checkpointContainer(task, wish, commanding),
    pids: async (task) => (task.cgroup === null ? [] : pidsOf(task.cgroup)),
    status: async (task) => parseStatus(await command(task, 'state', task.id)),
    async resize(_process, { output }, size) {
      const fd = output === null ? undefined : borrowFd(output, 0) // the copier has the other end of the terminal
      if (fd === undefined) return
      try {
        setWindowSize(fd, size)
      } finally {
        closeSync(fd)
      }
    },
    async closeInput(_process, { input, output }) {
      // on a terminal the end of the client's input ends nothing, so there the copier goes on
      if (input !== null && output === null) sendSignal(input, SIGKILL)
    },
    endInput({ input }) {
      if (input !== null) sendSignal(input, SIGKILL)
    },
    async release(_process, { output, logger }) {
      await drain(output)
      if (logger) await stopLogger(logger)
    },
    async delete(task) {
      if (!deleteDirectly(task)) await command(task, 'delete', '--force', task.id)
    },
    discard,
    watch: ({ task, execId }, live, watcher) =>
      exits.watch(
        {
          folder: task.bundle.processDir(execId),
          monitor: live.monitor,
          onLost: () => void sendSignal(live.process, SIGKILL),
        },
        watcher,
      ),
  }
}

/** @returns false when the process is gone. @throws {Fault} `invalid-argument` for a signal that does not exist */
function signalProcess(process: ProcessId | undefined, signal: number): boolean {
  try {
    return process !== undefined && sendSignal(process, signal)
  } catch (error) {
    if (isSystemError(error, 'EINVAL'))
      throw new Fault('invalid-argument', `Cannot send signal ${signal}: there is none`)
    throw error
  }
}

async function drain(output: ProcessId | null): Promise<void> {
  if (output === null) return
  const deadline = performance.now() + DRAIN_MS
  while (isAlive(output) && performance.now() < deadline) await sleep(DRAIN_STEP_MS)
  sendSignal(output, SIGKILL)
}

function parseStatus(state: string): TaskStatus {
  const { status } = JSON.parse(state)
  return status === 'created' || status === 'running' || status === 'paused' ? status : 'stopped'
}
