import { readFileSync } from 'node:fs'
import { parseMount, parseTmpfs } from '@gantry/client/mount-option'
import type { SpecMount } from '@gantry/client/spec'
import type { DeviceOption, IdRange, NamespacePath, Resources, Rlimit, SpecOptions } from '@gantry/client/spec-options'
import { Fault } from '@gantry/model/fault'
import { parseRestartPolicy } from '@gantry/model/restart'
import type { Command } from 'commander'
import { parseSize } from '../format/size.ts'
import { collect, collecting, parsing } from './collecting.ts'
import { detachKeysOption } from './detach-keys.ts'
import { parseLogUri } from './detached-log.ts'
import { parseEnvFile, resolveEnv } from './environment.ts'
import {
  isShared,
  parseDevice,
  parseIdRange,
  parseNamespace,
  parseShared,
  parseSysctl,
  parseUlimit,
  type SharedWith,
  securityOf,
} from './isolation.ts'
import { addNetworkOptions, isMade, type NetworkOptions } from './network-options.ts'

const SHORT_ID = 12
const MAX_HOSTNAME = 63
const VOLUME_OPTIONS = 'ro rw bind rbind private rprivate shared rshared slave rslave noexec nosuid nodev'.split(' ')

/** What the options of `run` say, as commander hands them over. */
export interface RunOptions extends NetworkOptions {
  readonly rm?: boolean
  readonly detach?: boolean
  readonly detachKeys?: Uint8Array
  readonly restart?: string
  readonly logUri?: string
  readonly tty?: boolean
  readonly init?: boolean
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
  readonly cpus?: number
  readonly cpuShares?: number
  readonly cpusetCpus?: string
  readonly memory?: bigint
  readonly memorySwap?: bigint
  readonly pidsLimit?: number
  readonly ulimit: readonly Rlimit[]
  readonly capAdd: readonly string[]
  readonly capDrop: readonly string[]
  readonly securityOpt: readonly string[]
  readonly uidmap: readonly IdRange[]
  readonly gidmap: readonly IdRange[]
  readonly privileged?: boolean
  readonly tmpfs: readonly SpecMount[]
  readonly device: readonly DeviceOption[]
  readonly sysctl: readonly (readonly [string, string])[]
  readonly hostname?: string
  readonly sandbox?: string
  readonly ipc?: 'host' | 'private' | NamespacePath | SharedWith
  readonly pid?: 'host' | 'private' | NamespacePath | SharedWith
  readonly uts?: 'host' | 'private' | NamespacePath
  readonly entrypoint?: string
  readonly platform?: string
  readonly plainHttp?: boolean
}

/** Docker's names and letters for what is the same there. */
export function addRunOptions(command: Command): Command {
  return addCreateOptions(
    command
      .option('--rm', 'remove the container when it ends')
      .option('-d, --detach', 'print its id and leave it running')
      .option('-i, --interactive', 'pass our input on; detached: for who attaches')
      .addOption(detachKeysOption()),
  )
}

/** What makes a container, whoever starts it. */
export function addCreateOptions(command: Command): Command {
  command
    .option('--restart <policy>', 'no, always, unless-stopped, on-failure[:times]; detached', parsing(parseRestart))
    .option(
      '--log-uri <uri>',
      'file:///FILE or binary:///PROGRAM of the node: where output goes; detached',
      parsing(parseLogUri),
    )
    .option('-t, --tty', 'give it a terminal')
    .option('--init', 'a small first process that passes signals on and reaps what is orphaned')
    .option('-e, --env <entry>', 'KEY=value, or KEY for the value it has here (repeatable)', collect, [])
    .option('--env-file <file>', 'such entries, one a line (repeatable)', collect, [])
    .option('-l, --label <label>', 'key=value (repeatable)', collect, [])
    .option('--name <name>', 'instead of a random id')
    .option('-u, --user <user>', 'name or uid, with :group')
    .option('-w, --workdir <dir>', 'where the command starts')
    .option('--entrypoint <program>', "instead of the image's")
    .option('--platform <platform>', 'os/arch[/variant] (default: this host)')
    .option('--plain-http', 'speak HTTP to the registry when the image is pulled')
  addLimits(command)
  addRights(command)
  return addSurroundings(command)
}

/** Limits that can be changed while it runs. */
export function addLimits(command: Command): Command {
  return command
    .option('--cpus <number>', 'limit, such as 1.5', parsing(parseNumber))
    .option('-c, --cpu-shares <weight>', "relative weight (1024 is everybody's)", parsing(parseInteger))
    .option('--cpuset-cpus <cpus>', 'which CPUs, such as 0-2,5')
    .option('-m, --memory <bytes>', 'limit, such as 64m or 1g', parsing(parseSize))
    .option('--memory-swap <bytes>', 'limit of memory and swap together, or -1', parsing(parseSwap))
    .option('--pids-limit <number>', 'limit of processes and threads, or -1', parsing(parseInteger))
}

function addRights(command: Command): void {
  command
    .option('--ulimit <limit>', 'name=soft[:hard], such as nofile=1024:2048 (repeatable)', collecting(parseUlimit), [])
    .option('--cap-add <capability>', 'such as NET_ADMIN, or ALL (repeatable)', collect, [])
    .option('--cap-drop <capability>', 'such as MKNOD, or ALL (repeatable)', collect, [])
    .option(
      '--security-opt <option>',
      'seccomp=FILE|unconfined, no-new-privileges[=false], ... (repeatable)',
      collect,
      [],
    )
    .option(
      '--uidmap <range>',
      'container:host:size, its ids are those of the host (repeatable)',
      collecting(parseIdRange),
      [],
    )
    .option('--gidmap <range>', 'the same for groups (default: as --uidmap)', collecting(parseIdRange), [])
    .option('--privileged', 'all capabilities and devices')
}

function addSurroundings(command: Command): Command {
  return addNetworkOptions(command)
    .option('--sandbox <name>', 'share the namespaces of a sandbox that runs')
    .option('--mount <mount>', 'type=bind,src=DIR,dst=DIR[,readonly] (repeatable)', collecting(parseMount), [])
    .option('-v, --volume <mount>', 'DIR:DIR[:ro], a bind mount (repeatable)', collecting(parseVolume), [])
    .option('--tmpfs <mount>', 'DIR[:size=64m,...] (repeatable)', collecting(parseTmpfs), [])
    .option('--read-only', 'the root file system cannot be written')
    .option('--device <device>', '/dev/from[:/dev/to][:rwm] (repeatable)', collecting(parseDevice), [])
    .option('--sysctl <setting>', 'name=value (repeatable)', collecting(parseSysctl), [])
    .option('-h, --hostname <name>', 'default: the beginning of the id')
    .option('--ipc <mode>', 'private, host, container:name, or ns:/path', parsing(parseShared))
    .option('--pid <mode>', 'private, host, container:name, or ns:/path', parsing(parseShared))
    .option('--uts <mode>', 'private, host, or ns:/path', parsing(parseNamespace))
    .helpOption('--help', 'display help for command')
}

/**
 * All that can be said without the node; `sharedNamespaces` says the rest.
 *
 * @throws {Fault} `invalid-argument` for a file that cannot be read, or a value that cannot be meant
 */
export function specOf(
  options: RunOptions,
  container: { readonly id: string; readonly args: readonly string[] },
  env: Readonly<Record<string, string | undefined>>,
): SpecOptions {
  const { tty, workdir, user, entrypoint } = options
  return {
    args: container.args,
    env: resolveEnv([...options.envFile.flatMap(readEnvFile), ...options.env], env),
    ...(tty && { tty }),
    ...(workdir !== undefined && { cwd: workdir }),
    ...(user !== undefined && { user }),
    ...(entrypoint !== undefined && { entrypoint: entrypoint === '' ? [] : [entrypoint] }),
    ...limitsOf(options),
    ...(options.ulimit.length > 0 && { rlimits: options.ulimit }),
    ...rightsOf(options),
    ...surroundingsOf(options, container.id),
  }
}

export type LimitOptions = Pick<RunOptions, 'cpus' | 'cpuShares' | 'cpusetCpus' | 'memory' | 'memorySwap' | 'pidsLimit'>

export function limitsOf({
  cpus,
  cpuShares,
  cpusetCpus,
  memory,
  memorySwap,
  pidsLimit,
}: LimitOptions): Omit<Resources, 'rlimits'> {
  return {
    ...(cpus !== undefined && { cpus }),
    ...(cpuShares !== undefined && { cpuShares }),
    ...(cpusetCpus !== undefined && { cpuset: cpusetCpus }),
    ...(memory !== undefined && { memory }),
    ...(memorySwap !== undefined && { memorySwap }),
    ...(pidsLimit !== undefined && { pidsLimit: pidsLimit === 0 ? -1 : pidsLimit }), // Docker's 0 is no limit
  }
}

function rightsOf({ capAdd, capDrop, securityOpt, uidmap, gidmap, privileged }: RunOptions): SpecOptions {
  const ids = uidmap.length > 0 ? uidmap : gidmap
  return {
    ...(capAdd.length > 0 && { capAdd }),
    ...(capDrop.length > 0 && { capDrop }),
    ...(ids.length > 0 && { userns: { uids: ids, gids: gidmap.length > 0 ? gidmap : ids } }),
    ...(privileged && { privileged }),
    ...securityOf(securityOpt),
  }
}

function surroundingsOf(options: RunOptions, id: string): SpecOptions {
  const { readOnly, network, device, sysctl } = options
  const { ipc, pid, uts } = options
  const sharesName = network === 'host' || (uts !== undefined && uts !== 'private')
  const hostname = options.hostname ?? (sharesName ? undefined : defaultHostname(id))
  return {
    mounts: [...options.mount, ...options.volume, ...options.tmpfs],
    ...(readOnly && { readOnly }),
    ...(hostname !== undefined && { hostname }),
    ...(device.length > 0 && { devices: device }),
    ...(sysctl.length > 0 && { sysctls: Object.fromEntries(sysctl) }),
    ...(network !== undefined && !isMade(network) && !isShared(network) && { network }),
    ...(ipc !== undefined && ipc !== 'private' && !isShared(ipc) && { ipc }),
    ...(pid !== undefined && pid !== 'private' && !isShared(pid) && { pid }),
    ...(uts !== undefined && uts !== 'private' && { uts }),
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
  const odd = options?.split(',').find((option) => !VOLUME_OPTIONS.includes(option))
  if (odd !== undefined)
    throw new Fault(
      'invalid-argument',
      `Cannot use volume ${JSON.stringify(text)}: ${JSON.stringify(odd)} is none of ${VOLUME_OPTIONS.join(', ')}`,
    )
  return parseMount(
    `type=bind,src=${source},dst=${destination},options=${['rbind', ...(options?.split(',') ?? [])].join(':')}`,
  )
}

/** As it was written, but for `no`. */
function parseRestart(text: string): string | undefined {
  return parseRestartPolicy(text).name === 'no' ? undefined : text
}

function parseNumber(text: string): number {
  if (/^\d{1,6}(\.\d{1,6})?$/.test(text)) return Number(text)
  throw new Fault('invalid-argument', `Cannot use ${JSON.stringify(text)}: give a number such as 1.5`)
}

function parseInteger(text: string): number {
  if (/^(-1|\d{1,9})$/.test(text)) return Number(text)
  throw new Fault('invalid-argument', `Cannot use ${JSON.stringify(text)}: give a whole number`)
}

function parseSwap(text: string): bigint {
  return text === '-1' ? -1n : parseSize(text)
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
