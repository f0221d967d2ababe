import { posix } from 'node:path'
import { Fault } from '@gantry/model/fault'
import type { ImageDefaults } from '@gantry/model/manifest'
import type { Host } from './host.ts'
import {
  DEFAULT_CAPABILITIES,
  DEFAULT_PATH,
  defaultMounts,
  hostNetworkMounts,
  maskedPaths,
  READONLY_PATHS,
} from './spec-defaults.ts'
import type { ResolvedUser } from './user.ts'

/** What a caller decides about a container; everything else comes from the image, then from our defaults. */
export interface SpecOptions {
  /** Replaces the image's command; its entrypoint stays in front. */
  readonly args?: readonly string[]
  /** Replaces the image's entrypoint; its command is then not used. */
  readonly entrypoint?: readonly string[]
  /** `KEY=value`, later ones win. */
  readonly env?: readonly string[]
  readonly cwd?: string
  readonly tty?: boolean
  /** As `parseMount` reads them. */
  readonly mounts?: readonly SpecMount[]
  /** The root file system cannot be written. */
  readonly readOnly?: boolean
  /** Limit in bytes. */
  readonly memory?: bigint
  readonly hostname?: string
  /** `uid`, `uid:gid`, `name` or `name:group`; the image's unless told. */
  readonly user?: string
  readonly privileged?: boolean
  /** Shares the host's network. */
  readonly netHost?: boolean
  readonly annotations?: Readonly<Record<string, string>>
}

export interface SpecMount {
  readonly type: string
  readonly source: string
  readonly destination: string
  readonly options: readonly string[]
}

export interface ProcessSpec {
  readonly terminal?: boolean
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids?: readonly number[] }
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly [further: string]: unknown
}

/** An OCI runtime spec, as far as we read it. */
export interface Spec {
  readonly ociVersion: string
  readonly process: ProcessSpec
  readonly mounts: readonly SpecMount[]
  readonly [further: string]: unknown
}

export interface SpecParts {
  readonly namespace: string
  readonly id: string
  readonly image: ImageDefaults
  readonly user: ResolvedUser
  readonly options: SpecOptions
  readonly host: Host
}

/** The OCI version whose fields are used. */
const OCI_VERSION = '1.1.0'
const NO_FILE_LIMIT = 1024 // open files of a process, as containerd
const MAX_MEMORY = BigInt(Number.MAX_SAFE_INTEGER) // bytes; JSON numbers are exact up to here

/**
 * The spec of a container: our defaults, over them what the image says, over that what the caller says.
 *
 * @throws {Fault} `invalid-argument` when nothing is to be run, or a value cannot be used
 */
export function buildSpec(parts: SpecParts): Spec {
  const { options, namespace, id } = parts
  const privileged = options.privileged ?? false
  const network = options.netHost ? hostNetworkMounts() : []
  return {
    ociVersion: OCI_VERSION,
    process: processOf(parts),
    root: { path: 'rootfs', readonly: options.readOnly ?? false },
    ...(options.hostname === undefined ? {} : { hostname: options.hostname }),
    mounts: [...defaultMounts(privileged), ...network, ...(options.mounts ?? [])],
    ...(options.annotations ? { annotations: options.annotations } : {}),
    linux: {
      resources: {
        devices: [{ allow: privileged, access: 'rwm' }],
        ...(options.memory === undefined ? {} : { memory: { limit: memoryLimit(options.memory) } }),
      },
      cgroupsPath: `/${namespace}/${id}`,
      namespaces: namespacesOf(options.netHost ?? false),
      ...(privileged ? { devices: parts.host.devices() } : {}),
      ...(privileged ? {} : { maskedPaths: maskedPaths(parts.host.cpuCount), readonlyPaths: READONLY_PATHS }),
    },
  }
}

/** The user a container runs as before it is looked up in the image. */
export function userOf(options: SpecOptions, image: ImageDefaults): string {
  return options.user ?? image.user
}

/** Joins environments; a later key replaces an earlier one where it stood. */
export function mergeEnv(...lists: readonly (readonly string[])[]): string[] {
  const merged = new Map<string, string>()
  for (const entry of lists.flat()) merged.set(entry.slice(0, entry.indexOf('=')), entry)
  return [...merged.values()]
}

/** The process of an exec: like the container's own, with another command. */
export function execProcess(
  base: ProcessSpec,
  exec: { args: readonly string[]; env?: readonly string[]; cwd?: string; tty?: boolean; user?: ResolvedUser },
): ProcessSpec {
  if (exec.args.length === 0) throw new Fault('invalid-argument', 'Cannot run an exec: no command given')
  const { terminal: _, consoleSize: __, ...rest } = base
  const tty = exec.tty ?? false
  return {
    ...rest,
    args: exec.args,
    cwd: exec.cwd === undefined ? base.cwd : checkCwd(exec.cwd),
    env: checkEnv(mergeEnv(base.env, tty ? ['TERM=xterm'] : [], checkEntries(exec.env ?? []))),
    user: exec.user ?? base.user,
    ...(tty ? { terminal: true } : {}),
  }
}

function processOf({ image, options, user, host }: SpecParts): ProcessSpec {
  const tty = options.tty ?? false
  const ofImage = image.env.filter((entry) => entry.indexOf('=') > 0) // a bare key would take the value from a host
  const capabilities = options.privileged ? host.capabilities() : DEFAULT_CAPABILITIES
  return {
    ...(tty ? { terminal: true } : {}),
    user,
    args: commandOf(options, image),
    env: checkEnv(mergeEnv([DEFAULT_PATH], ofImage, tty ? ['TERM=xterm'] : [], checkEntries(options.env ?? []))),
    cwd: checkCwd(options.cwd ?? (image.workingDir === '' ? '/' : posix.resolve('/', image.workingDir))),
    // inheritable stays empty: what a process inherits it would keep through an exec of an unprivileged user
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    rlimits: [{ type: 'RLIMIT_NOFILE', hard: NO_FILE_LIMIT, soft: NO_FILE_LIMIT }],
    noNewPrivileges: !options.privileged,
  }
}

function commandOf(options: SpecOptions, image: ImageDefaults): string[] {
  const given = options.args ?? []
  const entrypoint = options.entrypoint ?? image.entrypoint
  const args = given.length > 0 || options.entrypoint ? given : image.cmd
  const command = [...entrypoint, ...args]
  if (command.length === 0 || command[0] === '')
    throw new Fault('invalid-argument', 'Cannot run the image: it names no command and none was given')
  return command
}

function namespacesOf(netHost: boolean): { type: string }[] {
  return ['pid', 'ipc', 'uts', 'mount', ...(netHost ? [] : ['network'])].map((type) => ({ type }))
}

function checkEntries(env: readonly string[]): readonly string[] {
  const bare = env.find((entry) => entry.indexOf('=') <= 0)
  if (bare !== undefined)
    throw new Fault('invalid-argument', `Cannot set ${JSON.stringify(bare.slice(0, 128))}: give KEY=value`)
  return env
}

/** A line break in HOME would write a line of its own into files that runtimes make from it. */
function checkEnv(env: string[]): string[] {
  if (env.some((entry) => entry.startsWith('HOME=') && /[\r\n]/.test(entry)))
    throw new Fault('invalid-argument', 'Cannot use HOME: it holds a line break')
  if (env.some((entry) => entry.includes('\0')))
    throw new Fault('invalid-argument', 'Cannot use the environment: it holds a NUL')
  return env
}

/** A folder under a process's descriptors could be one of the host. */
function checkCwd(cwd: string): string {
  const path = posix.normalize(cwd)
  if (!posix.isAbsolute(path))
    throw new Fault('invalid-argument', `Cannot start in ${JSON.stringify(cwd)}: not absolute`)
  if (/^\/proc\/[^/]+\/(?:task\/[^/]+\/)?(?:fd|root|cwd)(?:\/|$)/.test(path))
    throw new Fault('invalid-argument', `Cannot start in ${JSON.stringify(cwd)}: it leads out of the container`)
  return path
}

function memoryLimit(bytes: bigint): number {
  if (bytes <= 0n || bytes > MAX_MEMORY)
    throw new Fault('invalid-argument', `Cannot limit memory to ${bytes} bytes: not between 1 and ${MAX_MEMORY}`)
  return Number(bytes)
}
