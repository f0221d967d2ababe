import { constants } from 'node:os'
import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import type { StdioOptions } from '@gantry/client/stdio'
import type { Task } from '@gantry/client/tasks'
import { Fault, ignoring } from '@gantry/model/fault'
import { normalizeReference } from '@gantry/model/reference'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { shortId } from '../find-container.ts'
import { Exit } from '../report.ts'
import { createContainer, type Wanted } from '../run/create-container.ts'
import { detachedStdio } from '../run/detached-log.ts'
import { rememberExit } from '../run/exit-labels.ts'
import { startFailureCode } from '../run/failure.ts'
import { runInForeground } from '../run/foreground.ts'
import { addRunOptions, type RunOptions } from '../run/options.ts'
import { type Attachment, Left, streamsOf } from '../run/terminal.ts'
import { openSession, printJson, type Session } from '../session.ts'

const NODE_FAILED = 125 // Docker's exit code for everything that fails before the command of the container could run
const CREATE_MS = 60_000
const CLEANUP_MS = 30_000

/** `gantry run`: an image becomes a running container. Its exit code is ours. */
export function createCommand(context: Context): Command {
  return addRunOptions(new Command('run'))
    .description('Runs a container. The image is pulled when it is not there.')
    .argument('<image>')
    .argument('[command...]', "instead of the image's")
    .passThroughOptions()
    .action(async (image: string, args: string[], options: RunOptions, command: Command) => {
      try {
        if (options.detach && options.rm)
          throw new Fault('invalid-argument', 'Cannot use --rm with --detach: nobody stays to remove it')
        if (options.restart !== undefined && !options.detach)
          throw new Fault('invalid-argument', 'Cannot use --restart without --detach: its end would be ours')
        if (options.logUri !== undefined && !options.detach)
          throw new Fault('invalid-argument', 'Cannot use --log-uri without --detach: its output would be ours')
        await using session = openSession(command, context)
        process.exitCode = await run(session, { image: normalizeReference(image).text, args, options })
      } catch (error) {
        throw error instanceof Exit ? error : new Exit(NODE_FAILED, error)
      }
    })
}

async function run(session: Session, { image, args, options }: Wanted): Promise<number> {
  const { client, signal } = session
  const streams = options.detach ? undefined : streamsOf(attachmentOf(options), session)
  // from here on each step is done or undone as a whole: an interruption counts between two of them
  const container = await createContainer(session, { image, args, options })
  const { id } = container
  let started = false
  try {
    signal.throwIfAborted()
    const task = await createTask(session, container, streams?.stdio ?? detachedStdio(container))
    session.releaseSignals()
    if (!streams) return await startDetached(session, task, options.restart !== undefined)
    const exit = await runInForeground(task, streams, () => {
      started = true
      streams.gate.open()
    })
    await finish(client, task, options)
    await streams.gate.finish()
    return exit.status
  } catch (error) {
    streams?.gate.drop()
    if (error instanceof Left) throw new Exit(error.code, new Error(`${error.message}; ${adviceFor(id, options)}`))
    const code = startFailureCode(error, NODE_FAILED)
    if (!started || options.rm) await undo(client, id)
    throw new Exit(started ? NODE_FAILED : code, error)
  }
}

/** A container that was made to be attached to outlives our terminal; nobody would remove one of --rm. */
function attachmentOf({ tty = false, interactive = false, detachKeys, rm = false }: RunOptions): Attachment {
  return { tty, interactive, detachKeys, stays: tty && interactive && !rm }
}

function adviceFor(id: string, { rm }: RunOptions): string {
  const name = shortId(id)
  return `"gantry attach ${name}" takes it up again${rm ? `, "gantry rm -f ${name}" removes it` : ''}`
}

function createTask({ client }: Session, container: Container, stdio: StdioOptions): Promise<Task> {
  return client.tasks.create(container, { stdio }, AbortSignal.timeout(CREATE_MS))
}

async function startDetached(session: Session, task: Task, keep: boolean): Promise<number> {
  // before the start, so that not even a short life is missed; what was only created is left alone
  if (keep) await session.client.containers.want(task.containerId, 'running', AbortSignal.timeout(CREATE_MS))
  const pid = await task.start(AbortSignal.timeout(CREATE_MS))
  if (session.json) printJson(session, { id: task.containerId, pid })
  else session.stdout.write(`${task.containerId}\n`)
  return 0
}

/** The task goes when the container has ended; the container too with --rm, else it keeps its exit code. */
async function finish(client: GantryClient, task: Task, { rm }: RunOptions): Promise<void> {
  const cleanup = AbortSignal.timeout(CLEANUP_MS)
  // somebody else may have been faster
  const exit = await ignoring('not-found', task.delete(cleanup))
  if (rm) await ignoring('not-found', client.containers.delete(task.containerId, {}, cleanup))
  else if (exit) await ignoring('not-found', rememberExit(client, task.containerId, exit, cleanup))
}

/** Takes back whatever there is of a container. Failing to do so must not hide why. */
async function undo(client: GantryClient, id: string): Promise<void> {
  const cleanup = AbortSignal.timeout(CLEANUP_MS)
  const steps = [
    async () => {
      const task = await client.tasks.get(id, cleanup)
      await task.kill(constants.signals.SIGKILL, { all: true }, cleanup).catch(() => undefined)
      await task.delete(cleanup)
    },
    () => client.containers.delete(id, {}, cleanup),
  ]
  for (const step of steps) await step().catch(() => undefined)
}
