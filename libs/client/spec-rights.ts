import { posix } from 'node:path'
import { Fault } from '@gantry/model/fault'
import type { Host } from './host.ts'
import { defaultSeccomp, parseSeccomp, type Seccomp } from './seccomp.ts'
import { ALL_CAPABILITIES, DEFAULT_CAPABILITIES, maskedPaths, READONLY_PATHS } from './spec-defaults.ts'
import type { IdRange, Rights } from './spec-options.ts'

const MAX_ID = 4294967294

/**
 * The capabilities of a container, in the order of their bits: the usual ones, without what is dropped, with what is
 * added; `ALL` stands for all that this host has.
 *
 * @throws {Fault} `invalid-argument` for a name that is none
 */
export function capabilitiesOf({ privileged, capAdd = [], capDrop = [] }: Rights, host: Host): string[] {
  const add = new Set(capAdd.map(parseCapability))
  const drop = new Set(capDrop.map(parseCapability))
  const all = privileged || add.has('ALL')
  const usual = all ? host.capabilities() : drop.has('ALL') ? [] : DEFAULT_CAPABILITIES
  return ALL_CAPABILITIES.filter((name) => (usual.includes(name) && !drop.has(name)) || add.has(name))
}

/** `linux.seccomp`, unless the container is not to be filtered. */
export function seccompOf({ privileged, seccomp }: Rights, capabilities: readonly string[]): Seccomp | undefined {
  if (seccomp === 'unconfined' || (privileged && seccomp === undefined)) return undefined
  return seccomp === undefined ? defaultSeccomp(capabilities) : parseSeccomp(seccomp, { capabilities })
}

/** `linux.maskedPaths` and `linux.readonlyPaths`; neither for a privileged container. */
export function guardedPaths(rights: Rights, cpuCount: number): { maskedPaths?: string[]; readonlyPaths?: string[] } {
  const { privileged, unmaskedPaths = [] } = rights
  const open = (path: string): boolean => unmaskedPaths === 'all' || unmaskedPaths.includes(path)
  const usual = privileged ? [] : maskedPaths(cpuCount).filter((path) => !open(path))
  const masked = [...usual, ...(rights.maskedPaths ?? []).map(absolute)]
  const readonly = privileged ? [] : READONLY_PATHS.filter((path) => !open(path))
  return {
    ...(masked.length > 0 && { maskedPaths: masked }),
    ...(readonly.length > 0 && { readonlyPaths: readonly }),
  }
}

/** The ranges of one kind of id as the OCI runtime spec writes them. @throws {Fault} `invalid-argument` */
export function idMappings(ranges: readonly IdRange[]): { containerID: number; hostID: number; size: number }[] {
  if (!ranges.some(({ container, size }) => container === 0 && size > 0))
    throw new Fault('invalid-argument', 'Cannot map ids: 0 of the container must be among them')
  return ranges.map(({ container, host, size }) => {
    const ids = [container, host, size]
    if (ids.some((id) => !Number.isInteger(id) || id < 0) || Math.max(container, host) + size - 1 > MAX_ID || size < 1)
      throw new Fault('invalid-argument', `Cannot map ids ${ids.join(':')}: give container:host:size, up to ${MAX_ID}`)
    return { containerID: container, hostID: host, size }
  })
}

function parseCapability(text: string): string {
  const upper = text.toUpperCase()
  if (upper === 'ALL') return upper
  const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  if (ALL_CAPABILITIES.includes(name)) return name
  throw new Fault(
    'invalid-argument',
    `There is no capability ${JSON.stringify(text.slice(0, 64))}: give one like NET_ADMIN, or ALL`,
  )
}

function absolute(path: string): string {
  if (posix.isAbsolute(path)) return posix.normalize(path)
  throw new Fault('invalid-argument', `Cannot mask ${JSON.stringify(path.slice(0, 128))}: give an absolute path`)
}
