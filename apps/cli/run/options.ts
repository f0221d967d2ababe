import { readFileSync } from 'node:fs'
import { parseMount } from '@gantry/client/mount-option'
import type { SpecMount, SpecOptions } from '@gantry/client/spec'
import { Fault } from '@gantry/model/fault'
import { type Command, InvalidArgumentError } from 'commander'
import { parseSize } from '../format/size.ts'
import { parseEnvFile, resolveEnv } from './environment.ts'

const SHORT_ID = 12
const MAX_HOSTNAME = 63

/** What the options of `run` say, as commander hands them over. */
export interface RunOptions {
  readonly rm?: boolean
  readonly detach?: boolean
  readonly tty?: boolean
  readonly interactive?: boolean
  readonly env: readonly string[]
  readonly envFile: readonly string[]
  readonly mount: readonly SpecMount[]
  readonly volume: readonly SpecMount[]
  readonly label: readonly string[]
  readonly name?: string
  readonly user?: string
  readonly workdir?: string
  readonly readOnly?: boolean
  readonly memory?: bigint
  readonly hostname?: string
  readonly network?: 'host' | 'none'
  readonly privileged?: boolean
  readonly entrypoint?: string
  readonly platform?: string
  readonly plainHttp?: boolean
}

/** Docker's names and letters for what is the same there. */
export function addRunOptions(command: Command): Command {
  return command
    .option('--rm', 'remove the container when it ends')
    .option('-d, --detach', 'print its id and leave it running')
    .option('-t, --tty', 'give it a terminal')
    .option('-i, --interactive', 'pass our input on')
    .option('-e, --env <entry>', 'KEY=value, or KEY for the value it has here (repeatable)', collect, [])
    .option('--env-file <file>', 'such entries, one a line (repeatable)', collect, [])
    .option('--mount <mount>', 'type=bind,src=DIR,dst=DIR[,readonly] (repeatable)', collecting(parseMount), [])
    .option('-v, --volume <mount>', 'DIR:DIR[:ro], a bind mount (repeatable)', collecting(parseVolume), [])
    .option('-l, --label <label>', 'key=value (repeatable)', collect, [])
    .option('--name <name>', 'instead of a random id')
    .option('-u, --user <user>', 'name or uid, with :group')
    .option('-w, --workdir <dir>', 'where the command starts')
    .option('--read-only', 'the root file system cannot be written')
    .option('-m, --memory <bytes>', 'limit, such as 64m or 1g', parsing(parseSize))
    .option('--hostname <name>', 'default: the beginning of the id')
    .option('--net, --network <mode>', 'host, or none', parsing(parseNetwork))
    .option('--privileged', 'all capabilities and devices')
    .option('--entrypoint <program>', "instead of the image's")
    .option('--platform <platform>', 'os/arch[/variant] (default: this host)')
    .option('--plain-http', 'speak HTTP to the registry when the image is pulled')
}

/** @throws {Fault} `invalid-argument` for an env file that cannot be read */
export function specOf(
  options: RunOptions,
  container: { readonly id: string; readonly args: readonly string[] },
  env: Readonly<Record<string, string | undefined>>,
): SpecOptions {
  const { tty, workdir, readOnly, memory, user, privileged, entrypoint, network } = options
  const hostname = options.hostname ?? (network === 'host' ? undefined : defaultHostname(container.id))
  return {
    args: container.args,
    env: resolveEnv([...options.envFile.flatMap(readEnvFile), ...options.env], env),
    mounts: [...options.mount, ...options.volume],
    ...(tty && { tty }),
    ...(workdir !== undefined && { cwd: workdir }),
    ...(readOnly && { readOnly }),
    ...(memory !== undefined && { memory }),
    ...(hostname !== undefined && { hostname }),
    ...(user !== undefined && { user }),
    ...(privileged && { privileged }),
    ...(entrypoint !== undefined && { entrypoint: entrypoint === '' ? [] : [entrypoint] }),
    ...(network === 'host' && { netHost: true }),
  }
}

/** `/src:/dst[:options]` @throws {Fault} `invalid-argument` */
export function parseVolume(text: string): SpecMount {
  const [source = '', destination = '', options, ...rest] = text.split(':')
  if (rest.length > 0 || !source.startsWith('/') || !destination.startsWith('/'))
    throw new Fault(
      'invalid-argument',
      `Cannot use volume ${JSON.stringify(text)}: write it as /source:/destination[:ro]`,
    )
  return parseMount(
    `type=bind,src=${source},dst=${destination},options=${['rbind', ...(options?.split(',') ?? [])].join(':')}`,
  )
}

function parseNetwork(text: string): 'host' | 'none' {
  if (text === 'host' || text === 'none') return text
  throw new Fault('invalid-argument', `There is no network "${text}": choose host or none`)
}

function defaultHostname(id: string): string {
  return /^[0-9a-f]{64}$/.test(id) ? id.slice(0, SHORT_ID) : id.slice(0, MAX_HOSTNAME)
}

function readEnvFile(path: string): string[] {
  try {
    return parseEnvFile(readFileSync(path, 'utf8'))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new Fault('invalid-argument', `Cannot read the environment file: ${reason}`, { cause: error })
  }
}

function collect(value: string, previous: readonly string[]): string[] {
  return [...previous, value]
}

function collecting<T>(parse: (text: string) => T): (value: string, previous: readonly T[]) => T[] {
  const checked = parsing(parse)
  return (value, previous) => [...previous, checked(value)]
}

/** A value that cannot be read is a mistake in the command line. */
function parsing<T>(parse: (text: string) => T): (value: string) => T {
  return (value) => {
    try {
      return parse(value)
    } catch (error) {
      throw new InvalidArgumentError(error instanceof Error ? error.message : String(error))
    }
  }
}
