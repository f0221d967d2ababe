import { basename, join } from 'node:path'
import type { Any } from '@bufbuild/protobuf/wkt'
import { type Options, OptionsSchema } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { Fault } from '@gantry/model/fault'
import { decode } from '@gantry/rpc/message'
import { checkReachable } from '../shim/bootstrap.ts'
import { chooseRuntime, type Host } from './choose.ts'
import type { RuntimeChoice, ShimChoice } from './runtime.ts'

/** Names of the runtime that is built in: what containerd runs through its runc shim. */
const BUILT_IN = new Set(['', 'io.containerd.runc.v1', 'io.containerd.runc.v2', 'io.containerd.runtime.v1.linux'])

/** Of the protocol of shims, when a client names none. */
const DEFAULT_VERSION = 3

export interface ResolveParts {
  /** `auto` or an absolute path. */
  readonly configured: string
  readonly host: Host
  readonly state: string
}

/** What a client says about the runtime of a task. */
export interface Wish {
  readonly namespace: string
  /** Name in the container's record. */
  readonly name: string
  /** Overrides the name: another name, or the absolute path of a shim. */
  readonly path: string
  /** Where a shim runs already that the task is to be given to, empty for none, and the version it speaks, 0 for the usual. */
  readonly address?: string
  readonly version?: number
  readonly options: Any | undefined
  /** Options in the container's record, for a request without any. */
  readonly containerOptions: Any | undefined
  /** The container's specification, when it is known already. */
  readonly spec?: Uint8Array | undefined
  /** It is to go on from a checkpoint. */
  readonly isRestored?: boolean
}

/**
 * Chooses how a task is run (behaviour facts, 9.2).
 * @throws {Fault} `unknown` for a shim that is not installed or options of another runtime, `invalid-argument` for a bad name or malformed options,
 *   `failed-precondition` when a program is missing
 */
export function resolveRuntime({ configured, host, state }: ResolveParts, wish: Wish): RuntimeChoice {
  if (wish.address) return { ...EXTERNAL, shim: joinedShim(wish, wish.address) }
  const shim = findShim(wish.path || wish.name, host)
  if (shim !== undefined) return { ...EXTERNAL, shim: { binary: shim, options: optionsOf(wish) } }
  const options = parseOptions(wish.options) ?? parseOptions(wish.containerOptions)
  const binary = options?.binaryName
    ? find(options.binaryName, host)
    : chooseRuntime(configured, host, wish.spec, wish.isRestored).binary
  return {
    binary,
    root: join(options?.root || join(state, basename(binary)), wish.namespace),
    systemdCgroup: options?.systemdCgroup ?? false,
    noPivot: options?.noPivotRoot ?? false,
    noNewKeyring: options?.noNewKeyring ?? false,
    ioUid: options?.ioUid ?? 0,
    ioGid: options?.ioGid ?? 0,
    shim: null,
  }
}

/** Folders that a client names for criu with its request, empty for none; options of another runtime name none. */
export function criuPathsOf(options: Any | undefined) {
  const chosen = options?.typeUrl.endsWith(OptionsSchema.typeName) ? parseOptions(options) : undefined
  return { images: chosen?.criuImagePath ?? '', workPath: chosen?.criuWorkPath ?? '' }
}

/** What the built-in runtime would be told. */
const EXTERNAL = {
  ...{ binary: '', root: '', systemdCgroup: false, noPivot: false, noNewKeyring: false, ioUid: 0, ioGid: 0 },
} as const

/** The program of a runtime that is not built in (behaviour facts, 16.1), or undefined for the one that is. */
function findShim(name: string, host: Host): string | undefined {
  if (BUILT_IN.has(name)) return undefined
  if (!name.startsWith('/') && name.includes('/'))
    throw new Fault('invalid-argument', `Cannot use runtime "${name}": a path must be absolute`)
  const parts = name.split('.')
  if (!name.startsWith('/') && (parts.length < 2 || parts.includes('')))
    throw new Fault(
      'invalid-argument',
      `Cannot use runtime "${name}": it is neither like "io.containerd.runc.v2" nor a path`,
    )
  const program = name.startsWith('/') ? name : `containerd-shim-${parts.slice(-2).join('-')}`
  const path = host.find(program)
  if (path !== undefined) return path
  throw new Fault('unknown', `runtime "${name}" binary not installed "${program}": file does not exist: unknown`)
}

/** A shim that runs already is named by protocol and address, such as `ttrpc+unix:///run/shim.sock`. */
function joinedShim(wish: Wish, text: string): ShimChoice {
  const [, protocol, address] = /^([a-z]+)\+(.+)$/.exec(text) ?? []
  if (protocol === undefined || address === undefined)
    throw new Fault('invalid-argument', `Cannot join a shim at "${text}": its address is not like "ttrpc+unix:///path"`)
  const joins = { address, version: wish.version || DEFAULT_VERSION, protocol }
  checkReachable(joins)
  return { binary: '', joins, options: optionsOf(wish) }
}

/** Options are a shim's own matter: they go to it as they came. */
function optionsOf({ options, containerOptions }: Wish): ShimChoice['options'] {
  const any = [options, containerOptions].find((each) => each !== undefined && each.typeUrl !== '')
  return any === undefined ? null : { typeUrl: any.typeUrl, value: Buffer.from(any.value).toString('base64') }
}

/** Nothing at all, or options without content, leave the choice to the container's record. */
function parseOptions(any: Any | undefined): Options | undefined {
  if (any === undefined || any.typeUrl === '' || any.value.length === 0) return undefined
  const name = any.typeUrl.slice(any.typeUrl.lastIndexOf('/') + 1)
  if (name === OptionsSchema.typeName) return decode(OptionsSchema, any.value)
  throw new Fault('unknown', `invalid runtime options: expected ${OptionsSchema.typeName}, got ${name}`)
}

function find(program: string, host: Host): string {
  const path = host.find(program)
  if (path !== undefined) return path
  throw new Fault('failed-precondition', `Cannot run containers: the runtime "${program}" is not installed`)
}
