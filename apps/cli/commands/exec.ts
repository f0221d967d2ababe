import { randomBytes } from 'node:crypto'
import { ignoring } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { Exit } from '../report.ts'
import { collect } from '../run/collecting.ts'
import { detachKeysOption } from '../run/detach-keys.ts'
import { resolveEnv } from '../run/environment.ts'
import { startFailureCode } from '../run/failure.ts'
import { runInForeground } from '../run/foreground.ts'
import { Left, streamsOf } from '../run/terminal.ts'
import { openSession, type Session } from '../session.ts'

const FAILED = 1
const CLEANUP_MS = 30_000
const START_MS = 60_000

interface Options {
  readonly tty?: boolean
  readonly interactive?: boolean
  readonly detach?: boolean
  readonly detachKeys?: Uint8Array
  readonly env: readonly string[]
  readonly workdir?: string
  readonly user?: string
}

/** `gantry exec`: a further process in a running container. Its exit code is ours. */
export function createCommand(context: Context): Command {
  return new Command('exec')
    .description('Runs a further process in a running container.')
    .option('-t, --tty', 'give it a terminal')
    .option('-i, --interactive', 'pass our input on')
    .option('-d, --detach', 'leave it running; its output is thrown away')
    .addOption(detachKeysOption())
    .option('-e, --env <entry>', 'KEY=value (repeatable)', collect, [])
    .option('-w, --workdir <dir>', 'where it starts')
    .option('-u, --user <user>', 'name or uid, with :group')
    .argument('<container>')
    .argument('<command...>')
    .passThroughOptions()
    .action(async (name: string, args: string[], options: Options, command: Command) => {
      await using session = openSession(command, context)
      process.exitCode = await exec(session, name, { args, options })
    })
}

async function exec(session: Session, name: string, what: { args: string[]; options: Options }): Promise<number> {
  const { client, signal } = session
  const { tty = false, interactive = false, detach = false, detachKeys, env, workdir, user } = what.options
  const streams = streamsOf({ tty, interactive: interactive && !detach, detachKeys }, session)
  const { stdio, gate } = streams
  const loading = import('@gantry/client/stdio') // takes a while: that may pass while the server answers
  loading.catch(() => undefined) // whoever needs it will tell
  const container = await findContainer(client, name, signal)
  const wanted = {
    execId: randomBytes(32).toString('hex'),
    args: what.args,
    env: resolveEnv(env, session.env),
    tty,
    stdio: detach ? {} : stdio,
    ...(workdir !== undefined && { cwd: workdir }),
    ...(user !== undefined && { user }),
  }
  const target = await client.tasks.exec(container, wanted, signal)
  let started = false
  try {
    session.releaseSignals()
    if (detach) {
      await target.start(AbortSignal.timeout(START_MS))
      return 0
    }
    const exit = await runInForeground(target, streams, () => {
      started = true
      gate.open()
    })
    await ignoring('not-found', target.delete(AbortSignal.timeout(CLEANUP_MS)))
    await gate.finish()
    return exit.status
  } catch (error) {
    gate.drop()
    if (error instanceof Left) throw new Exit(error.code, error)
    await target.delete(AbortSignal.timeout(CLEANUP_MS)).catch(() => undefined)
    throw new Exit(started ? FAILED : startFailureCode(error, FAILED), error)
  }
}
