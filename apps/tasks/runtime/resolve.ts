import { basename, join } from 'node:path'
import { fromBinary } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import { type Options, OptionsSchema } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { Fault } from '@gantry/model/fault'
import { chooseRuntime, type Host } from './choose.ts'
import type { RuntimeChoice } from './runtime.ts'

/** Names of the runtime that is built in: what containerd runs through its runc shim. */
const BUILT_IN = new Set(['', 'io.containerd.runc.v1', 'io.containerd.runc.v2', 'io.containerd.runtime.v1.linux'])
const RUNC_SHIM = /^containerd-shim-runc-v[12]$/

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
  readonly options: Any | undefined
  /** Options in the container's record, for a request without any. */
  readonly containerOptions: Any | undefined
}

/**
 * Chooses how a task is run (behaviour facts, 9.2).
 * @throws {Fault} `unimplemented` for a runtime that is not built in, `unknown` for options of another runtime,
 *   `failed-precondition` when a program is missing
 */
export function resolveRuntime({ configured, host, state }: ResolveParts, wish: Wish): RuntimeChoice {
  checkName(wish.path || wish.name)
  const options = parseOptions(wish.options) ?? parseOptions(wish.containerOptions)
  const binary = options?.binaryName ? find(options.binaryName, host) : chooseRuntime(configured, host).binary
  return {
    binary,
    root: join(options?.root || join(state, basename(binary)), wish.namespace),
    systemdCgroup: options?.systemdCgroup ?? false,
    noPivot: options?.noPivotRoot ?? false,
    noNewKeyring: options?.noNewKeyring ?? false,
    ioUid: options?.ioUid ?? 0,
    ioGid: options?.ioGid ?? 0,
  }
}

function checkName(name: string): void {
  if (BUILT_IN.has(name)) return
  if (name.startsWith('/') && RUNC_SHIM.test(basename(name))) return
  if (!name.startsWith('/') && name.includes('/'))
    throw new Fault('invalid-argument', `Cannot use runtime "${name}": a path must be absolute`)
  throw new Fault('unimplemented', `Cannot use runtime "${name}": external shims are not supported yet`)
}

/** Nothing at all, or options without content, leave the choice to the container's record. */
function parseOptions(any: Any | undefined): Options | undefined {
  if (any === undefined || any.typeUrl === '' || any.value.length === 0) return undefined
  const name = any.typeUrl.slice(any.typeUrl.lastIndexOf('/') + 1)
  if (name === OptionsSchema.typeName) return fromBinary(OptionsSchema, any.value)
  throw new Fault('unknown', `invalid runtime options: expected ${OptionsSchema.typeName}, got ${name}`)
}

function find(program: string, host: Host): string {
  const path = host.find(program)
  if (path !== undefined) return path
  throw new Fault('failed-precondition', `Cannot run containers: the runtime "${program}" is not installed`)
}
