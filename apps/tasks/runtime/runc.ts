import { Fault } from '@gantry/model/fault'
import { runToEnd } from '../child.ts'
import type { Reach } from './reach.ts'
import type { RuntimeChoice } from './runtime.ts'

const MAX_OUTPUT = 64 * 1024 // bytes of what the OCI runtime says
const STATE_MS = 10_000 // how long it may think about the state of a container
const COMMAND_MS = 120_000 // how long any other command may take, with its hooks

/** What it takes to run a command of an OCI runtime. */
export interface Commanding {
  readonly env: ChildEnvironment
  readonly reach: Reach
}

/** The environment of the runtime and its monitor: nothing of ours but where programs are. */
export interface ChildEnvironment {
  readonly PATH: string
}

/**
 * Runs one command of an OCI runtime (runc and crun take the same) and returns what it printed.
 * @throws {Fault} `unknown` with the runtime's own words, which clients match: `OCI runtime <verb> failed: ...`, also when it
 *   takes longer than 2 minutes (for the state 10 s; a checkpoint may take as long as it does)
 */
export async function runRuntime(
  runtime: RuntimeChoice,
  args: readonly [verb: string, ...rest: string[]],
  { env, reach }: Commanding,
): Promise<string> {
  const [verb] = args
  using reached = reach(runtime.binary)
  const timeoutMs = verb === 'state' ? STATE_MS : COMMAND_MS
  const { code, output, errors } = await runToEnd(reached.program, [...reached.args, ...globalArgs(runtime), ...args], {
    env: { ...env },
    input: '',
    maxBytes: MAX_OUTPUT,
    ...(verb !== 'checkpoint' && { timeoutMs }), // a large process takes its time
  })
  if (code === 0) return output
  if (code === 'SIGKILL')
    throw new Fault(
      'unknown',
      `OCI runtime ${verb} failed: it was killed, after ${timeoutMs / 1000} s at most: unknown`,
    )
  const words = lastError(errors) ?? (errors.trim().split('\n').at(-1) || `exit status ${code}`)
  throw new Fault('unknown', `OCI runtime ${verb} failed: ${words}: unknown`)
}

/** Flags before the verb. */
export function globalArgs(runtime: RuntimeChoice): string[] {
  return ['--root', runtime.root, '--log-format', 'json', ...(runtime.systemdCgroup ? ['--systemd-cgroup'] : [])]
}

/** The message of the last error in a log of JSON lines, as runc and crun write it; other lines are passed over. */
export function lastError(log: string): string | undefined {
  const messages = log.split('\n').flatMap((line) => {
    try {
      const { level, msg } = JSON.parse(line)
      return level === 'error' && typeof msg === 'string' ? [msg.trim()] : []
    } catch {
      return []
    }
  })
  return messages.at(-1)
}

const CRUN_NOT_FOUND = /^executable file `(.*)` not found in \$PATH: No such file or directory$/s
const CRUN_REFUSED = /^open executable: (Permission denied|Operation not permitted)$/ // the second one of a folder

/**
 * Why a program was not started, in runc's words, which clients match; all else stays as it was said.
 * @param program asked for when the message does not name it
 */
export function inWordsOfRunc(message: string, program: () => string | undefined): string {
  const missing = CRUN_NOT_FOUND.exec(message)?.[1]
  const refused = CRUN_REFUSED.test(message) ? program() : undefined
  const name = missing ?? refused
  if (name === undefined) return message
  const reason = missing === undefined ? 'permission denied' : `stat ${name}: no such file or directory`
  return `unable to start container process: exec: "${name}": ${name.includes('/') ? reason : 'executable file not found in $PATH'}`
}
