import { posix } from 'node:path'
import { Fault } from '@gantry/model/fault'
import type { ImageDefaults } from '@gantry/model/manifest'
import type { Host } from './host.ts'
import { DEFAULT_PATH, defaultMounts } from './spec-defaults.ts'
import type { Hooks, SpecOptions } from './spec-options.ts'
import { resourcesOf, rlimitsOf } from './spec-resources.ts'
import { capabilitiesOf, guardedPaths, idMappings, seccompOf } from './spec-rights.ts'
import { devicesOf, hostnameOf, namespacesOf, sysctlsOf } from './spec-surroundings.ts'
import type { ResolvedUser } from './user.ts'

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

/**
 * The spec of a container: our defaults, over them what the image says, over that what the caller says.
 *
 * @throws {Fault} `invalid-argument` when nothing is to be run, or a value cannot be used
 */
export function buildSpec(parts: SpecParts): Spec {
  const { options, host } = parts
  const hostname = hostnameOf(options)
  const capabilities = capabilitiesOf(options, host)
  return {
    ociVersion: OCI_VERSION,
    process: processOf(parts, capabilities),
    root: { path: 'rootfs', readonly: options.readOnly ?? false },
    ...(hostname !== undefined && { hostname }),
    mounts: [...defaultMounts(options), ...(options.mounts ?? []).map(withPropagation)],
    ...(options.annotations && { annotations: options.annotations }),
    ...(options.hooks && { hooks: checkHooks(options.hooks) }),
    linux: linuxOf(parts, capabilities),
  }
}

function linuxOf(
  { namespace, id, options, host }: SpecParts,
  capabilities: readonly string[],
): Record<string, unknown> {
  const privileged = options.privileged ?? false
  const devices = devicesOf(options.devices ?? [], host)
  const nodes = [...(privileged ? host.devices() : []), ...devices.nodes]
  const seccomp = seccompOf(options, capabilities)
  const sysctl = sysctlsOf(options)
  const propagation = propagationOf(options.mounts ?? [])
  return {
    resources: {
      devices: [{ allow: privileged, access: 'rwm' }, ...devices.rules],
      ...resourcesOf(options, host.cpuCount),
    },
    cgroupsPath: `/${namespace}/${id}`,
    namespaces: namespacesOf(options),
    ...(options.userns && {
      uidMappings: idMappings(options.userns.uids),
      gidMappings: idMappings(options.userns.gids),
    }),
    ...(nodes.length > 0 && { devices: nodes }),
    ...(sysctl && { sysctl }),
    ...(seccomp && { seccomp }),
    ...(propagation && { rootfsPropagation: propagation }),
    ...guardedPaths(options, host.cpuCount),
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

function processOf({ image, options, user }: SpecParts, capabilities: readonly string[]): ProcessSpec {
  const tty = options.tty ?? false
  const ofImage = image.env.filter((entry) => entry.indexOf('=') > 0) // a bare key would take the value from a host
  return {
    ...(tty ? { terminal: true } : {}),
    user,
    args: commandOf(options, image),
    env: checkEnv(mergeEnv([DEFAULT_PATH], ofImage, tty ? ['TERM=xterm'] : [], checkEntries(options.env ?? []))),
    cwd: checkCwd(options.cwd ?? (image.workingDir === '' ? '/' : posix.resolve('/', image.workingDir))),
    // inheritable stays empty: what a process inherits it would keep through an exec of an unprivileged user
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    rlimits: rlimitsOf(options.rlimits),
    noNewPrivileges: options.noNewPrivileges ?? !options.privileged,
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

/** What is mounted on the host later stays there, as with Docker, unless a bind mount asks for it. */
function withPropagation(mount: SpecMount): SpecMount {
  const says = mount.options.some((option) => /^r?(private|shared|slave|unbindable)$/.test(option))
  return mount.type === 'bind' && !says ? { ...mount, options: [...mount.options, 'rprivate'] } : mount
}

/** A mount that is to pass on what is mounted below it, or to receive it, needs a root that does. */
function propagationOf(mounts: readonly SpecMount[]): string | undefined {
  const options = mounts.flatMap((mount) => mount.options)
  if (options.some((option) => option === 'shared' || option === 'rshared')) return 'shared'
  return options.some((option) => option === 'slave' || option === 'rslave') ? 'rslave' : undefined
}

function checkHooks(hooks: Hooks): Hooks {
  for (const { path, timeout = 1 } of Object.values(hooks).flat())
    if (!posix.isAbsolute(path) || !(Number.isInteger(timeout) && timeout > 0))
      throw new Fault(
        'invalid-argument',
        `Cannot use hook ${JSON.stringify(path.slice(0, 128))}: give an absolute path, and a timeout in whole seconds`,
      )
  return hooks
}
