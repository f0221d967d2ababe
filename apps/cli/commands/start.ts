import { constants } from 'node:os'
import type { Container } from '@gantry/client/containers'
import type { Task } from '@gantry/client/tasks'
import { Fault, ignoring } from '@gantry/model/fault'
import { RESTART_POLICY } from '@gantry/model/restart'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { Exit } from '../report.ts'
import { detachKeysOption } from '../run/detach-keys.ts'
import { detachedStdio } from '../run/detached-log.ts'
import { endTask, taskOf } from '../run/end-task.ts'
import { rememberExit } from '../run/exit-labels.ts'
import { runInForeground } from '../run/foreground.ts'
import { letEnd } from '../run/let-end.ts'
import { Left, streamsOf } from '../run/terminal.ts'
import { openSession, type Session } from '../session.ts'

const START_MS = 60_000
const CLEANUP_MS = 30_000

interface Options {
  readonly attach?: boolean
  readonly interactive?: boolean
  readonly detachKeys?: Uint8Array
}

/** `gantry start`: runs containers that were made, or have ended. */
export function createCommand(context: Context): Command {
  return new Command('start')
    .description('Runs containers that "gantry create" made, or that have ended.')
    .argument('<container...>')
    .option('-a, --attach', 'stay with it: its output is ours, its exit code too')
    .option('-i, --interactive', 'the same, and pass our input on')
    .addOption(detachKeysOption())
    .action(async (names: string[], options: Options, command: Command) => {
      const { attach = false, interactive = false } = options
      await using session = openSession(command, context)
      const [name = '', ...others] = names
      if (!attach && !interactive) return each(names, session, (name) => startDetached(session, name))
      if (others.length > 0) throw new Fault('invalid-argument', 'Cannot attach to several containers: name one')
      process.exitCode = await startAttached(session, name, options)
    })
}

/** One that runs already is left as it is. */
async function startDetached(session: Session, name: string): Promise<void> {
  const { client, stdout, signal } = session
  const container = await findContainer(client, name, signal)
  if (!(await isRunning(session, container))) {
    const task = await client.tasks.create(
      container,
      { stdio: detachedStdio(container) },
      AbortSignal.timeout(START_MS),
    )
    try {
      // before the start, so that not even a short life is missed
      if (isWatched(container)) await client.containers.want(container.id, 'running', signal)
      await task.start(AbortSignal.timeout(START_MS))
    } catch (error) {
      await takeBack(session, container, task)
      throw error
    }
  }
  stdout.write(`${name}\n`)
}

async function startAttached(
  session: Session,
  name: string,
  { interactive = false, detachKeys }: Options,
): Promise<number> {
  const { client, signal } = session
  const container = await findContainer(client, name, signal)
  if (await isRunning(session, container))
    throw new Fault('failed-precondition', `Cannot attach to "${name}": it runs already; use "gantry attach"`)
  await letEnd(client, container, signal) // its end is ours to see, not the node's to undo
  const tty = container.spec?.process.terminal ?? false
  const streams = streamsOf({ tty, interactive, detachKeys, stays: tty && interactive }, session)
  const { stdio, gate } = streams
  const task = await client.tasks.create(container, { stdio }, AbortSignal.timeout(START_MS))
  session.releaseSignals()
  let started = false
  try {
    const exit = await runInForeground(task, streams, () => {
      started = true
      gate.open()
    })
    const cleanup = AbortSignal.timeout(CLEANUP_MS)
    await ignoring('not-found', task.delete(cleanup))
    await ignoring('not-found', rememberExit(client, container.id, exit, cleanup))
    await gate.finish()
    return exit.status
  } catch (error) {
    gate.drop()
    if (error instanceof Left) throw new Exit(error.code, error)
    if (!started) await takeBack(session, container, task)
    throw error
  }
}

/** Does it run? What is left of an earlier run is taken away; its record keeps the exit code until the next one. */
async function isRunning({ client, signal }: Session, { id }: Container): Promise<boolean> {
  const task = await taskOf(client, id, signal)
  const status = (await task?.status(signal))?.status
  if (status === 'running' || status === 'paused' || status === 'pausing') return true
  if (task) await ignoring('not-found', task.delete(signal))
  return false
}

/** A container whose start failed stays, without a task. Failing to do so must not hide why. */
async function takeBack({ client }: Session, container: Container, task: Task): Promise<void> {
  const cleanup = AbortSignal.timeout(CLEANUP_MS)
  if (isWatched(container)) await client.containers.want(container.id, 'stopped', cleanup).catch(() => undefined)
  await endTask(task, { number: constants.signals.SIGKILL, graceMs: 0 }, cleanup).catch(() => undefined)
  await task.delete(cleanup).catch(() => undefined)
}

function isWatched({ labels }: Container): boolean {
  return RESTART_POLICY in labels
}
