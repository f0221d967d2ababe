import { readFileSync } from 'node:fs'
import type { DeviceOption, IdRange, NamespacePath, Rights, Rlimit, SpecOptions } from '@gantry/client/spec-options'
import { Fault } from '@gantry/model/fault'

/** Another network than these two and one that is there is made by the node, and known by its name. */
export type NetworkChoice = 'host' | 'none' | NamespacePath | SharedWith | { readonly name: string }

/** The namespace of another container, by its name. */
export interface SharedWith {
  readonly container: string
}

const CONTAINER = 'container:'
const MAX_PROFILE = 4 * 1024 * 1024 // bytes
const SECURITY_FORMS =
  'seccomp=FILE, seccomp=unconfined, no-new-privileges[=false], systempaths=unconfined, mask=/a:/b, unmask=ALL or unmask=/a:/b'

/** `host`, `none`, `container:name`, `ns:/path/of/a/namespace` or the name of a network. @throws {Fault} `invalid-argument` */
export function parseNetwork(text: string): NetworkChoice {
  if (text === 'host' || text === 'none') return text
  if (text.startsWith('ns:/')) return { path: text.slice(3) }
  if (text.startsWith(CONTAINER)) return { container: text.slice(CONTAINER.length) }
  if (/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(text)) return { name: text }
  throw new Fault(
    'invalid-argument',
    `There is no network ${JSON.stringify(text)}: choose bridge, host, none, container:name, ns:/path, or the name of a CNI network`,
  )
}

/** For `--ipc` and `--pid`: as `parseNamespace`, or `container:name`. @throws {Fault} `invalid-argument` */
export function parseShared(text: string): 'host' | 'private' | NamespacePath | SharedWith {
  return text.startsWith(CONTAINER) ? { container: text.slice(CONTAINER.length) } : parseNamespace(text)
}

/** For `--uts`: `host`, `ns:/path`, or `private`. @throws {Fault} `invalid-argument` */
export function parseNamespace(text: string): 'host' | 'private' | NamespacePath {
  if (text === 'host' || text === 'private') return text
  if (text.startsWith('ns:/')) return { path: text.slice(3) }
  throw new Fault('invalid-argument', `Cannot use ${JSON.stringify(text)}: choose host, private or ns:/path`)
}

export function isShared(wanted: unknown): wanted is SharedWith {
  return typeof wanted === 'object' && wanted !== null && 'container' in wanted
}

/** `nofile=1024` or `nofile=1024:2048`; -1 is no limit. @throws {Fault} `invalid-argument` */
export function parseUlimit(text: string): Rlimit {
  const match = /^([a-z]+)=(-1|\d{1,19})(?::(-1|\d{1,19}))?$/.exec(text)
  if (!match)
    throw new Fault(
      'invalid-argument',
      `Cannot use ${JSON.stringify(text)}: write it as name=soft[:hard], like nofile=1024:2048`,
    )
  const [, name = '', soft = '', hard = soft] = match
  return { name, soft: BigInt(soft), hard: BigInt(hard) }
}

/** `/dev/from[:/dev/to][:rwm]` @throws {Fault} `invalid-argument` */
export function parseDevice(text: string): DeviceOption {
  const [source = '', second, third, ...rest] = text.split(':')
  const [destination, access] = second?.startsWith('/') ? [second, third] : [undefined, second]
  const left = rest.length > 0 || (destination === undefined && third !== undefined)
  if (left || !source.startsWith('/'))
    throw new Fault(
      'invalid-argument',
      `Cannot use device ${JSON.stringify(text)}: write it as /dev/from[:/dev/to][:rwm]`,
    )
  return { source, ...(destination !== undefined && { destination }), ...(access !== undefined && { access }) }
}

/** `name=value` @throws {Fault} `invalid-argument` */
export function parseSysctl(text: string): [name: string, value: string] {
  const at = text.indexOf('=')
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)]
  throw new Fault('invalid-argument', `Cannot use ${JSON.stringify(text)}: write it as name=value`)
}

/** `container:host:size`, a range of ids. @throws {Fault} `invalid-argument` */
export function parseIdRange(text: string): IdRange {
  const match = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(text)
  if (!match)
    throw new Fault('invalid-argument', `Cannot map ids ${JSON.stringify(text)}: write it as container:host:size`)
  const [, container, host, size] = match.map(Number)
  return { container: container ?? 0, host: host ?? 0, size: size ?? 0 }
}

/** What the values of `--security-opt` say together. @throws {Fault} `invalid-argument` */
export function securityOf(
  entries: readonly string[],
): Pick<Rights, 'seccomp' | 'noNewPrivileges' | 'maskedPaths' | 'unmaskedPaths'> {
  return Object.assign({}, ...entries.map(parseSecurity))
}

function parseSecurity(
  text: string,
): Pick<SpecOptions, 'seccomp' | 'noNewPrivileges' | 'maskedPaths' | 'unmaskedPaths'> {
  const [, key = '', value = ''] = /^([a-z-]+)(?:[=:](.*))?$/s.exec(text) ?? []
  const paths = value.split(':').filter((path) => path !== '')
  if (key === 'no-new-privileges' && ['', 'true', 'false'].includes(value))
    return { noNewPrivileges: value !== 'false' }
  if (key === 'seccomp' && value !== '') return { seccomp: value === 'unconfined' ? value : readProfile(value) }
  if (key === 'systempaths' && value === 'unconfined') return { unmaskedPaths: 'all' }
  if (key === 'mask' && paths.length > 0) return { maskedPaths: paths }
  if (key === 'unmask' && paths.length > 0) return { unmaskedPaths: value.toUpperCase() === 'ALL' ? 'all' : paths }
  throw new Fault(
    'invalid-argument',
    `Cannot use --security-opt ${JSON.stringify(text.slice(0, 128))}: give ${SECURITY_FORMS}`,
  )
}

function readProfile(path: string): string {
  try {
    const text = readFileSync(path, 'utf8')
    if (text.length <= MAX_PROFILE) return text
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Fault('invalid-argument', `Cannot read the seccomp profile: ${reason}`, { cause })
  }
  throw new Fault('invalid-argument', `Cannot use the seccomp profile ${path}: it is larger than ${MAX_PROFILE} bytes`)
}
