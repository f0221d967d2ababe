import { posix } from 'node:path'
import { Fault } from '@gantry/model/fault'
import type { SpecMount } from './spec.ts'

const ALIASES: Readonly<
  Record<string, 'type' | 'source' | 'destination' | 'options' | 'size' | 'mode' | 'propagation'>
> = {
  type: 'type',
  src: 'source',
  source: 'source',
  dst: 'destination',
  destination: 'destination',
  target: 'destination',
  options: 'options',
  'tmpfs-size': 'size',
  'tmpfs-mode': 'mode',
  'bind-propagation': 'propagation',
}

/** Docker's way to say that a mount cannot be written. */
const READ_ONLY = new Set(['readonly', 'ro', 'readonly=true', 'ro=true', 'readonly=1', 'ro=1'])
const PROPAGATIONS = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave']
/** What the kernel does with a tmpfs of Docker's unless told otherwise. */
const TMPFS_OPTIONS: readonly string[] = ['nosuid', 'nodev', 'noexec']

/**
 * Reads `type=bind,src=/data,dst=/data,options=rbind:ro`. The type is `bind` unless told; options are parted by colons and
 * are those of the OCI runtime spec. A bind mount without options is `rbind`. `readonly` alone means the option `ro`,
 * `bind-propagation=rshared` the option `rshared`, `tmpfs-size=64m` the option `size=64m`.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseMount(text: string): SpecMount {
  const parts = new Map<string, string>()
  const fields = text.split(',')
  for (const field of fields.filter((field) => !READ_ONLY.has(field))) {
    const at = field.indexOf('=')
    const name = at < 0 ? undefined : ALIASES[field.slice(0, at).trim()]
    if (!name)
      throw malformed(
        text,
        `"${field}" is not one of type=, src=, dst=, options=, readonly, bind-propagation=, tmpfs-size=, tmpfs-mode=`,
      )
    if (parts.has(name)) throw malformed(text, `${name} is given twice`)
    parts.set(name, field.slice(at + 1))
  }
  const type = parts.get('type') ?? 'bind'
  const source = parts.get('source') ?? (type === 'bind' ? '' : type)
  const destination = parts.get('destination') ?? ''
  if (text.includes('\0') || type === '') throw malformed(text, 'the type is empty')
  checkDestination(text, destination)
  if (type === 'bind' && !posix.isAbsolute(source)) throw malformed(text, 'src must be an absolute path')
  const options = [...optionsOf(text, parts), ...(fields.some((field) => READ_ONLY.has(field)) ? ['ro'] : [])]
  const bound = options.includes('bind') || options.includes('rbind')
  return {
    type,
    source,
    destination: posix.normalize(destination),
    options: type === 'bind' && !bound ? ['rbind', ...options] : options,
  }
}

/** Reads what `--tmpfs` says: `/run` or `/run:size=64m,mode=1777`. @throws {Fault} `invalid-argument` */
export function parseTmpfs(text: string): SpecMount {
  const at = text.indexOf(':')
  const destination = at < 0 ? text : text.slice(0, at)
  const given =
    at < 0
      ? []
      : text
          .slice(at + 1)
          .split(',')
          .filter((option) => option !== '')
  checkDestination(text, destination)
  const odd = given.find((option) => !/^[a-z_]+(=[0-9a-zA-Z%]+)?$/.test(option))
  if (odd !== undefined) throw malformed(text, `${JSON.stringify(odd)} is no option such as size=64m, mode=1777, exec`)
  const opposite = (option: string): string => (option.startsWith('no') ? option.slice(2) : `no${option}`)
  const kept = TMPFS_OPTIONS.filter((option) => !given.includes(opposite(option)))
  return { type: 'tmpfs', source: 'tmpfs', destination: posix.normalize(destination), options: [...kept, ...given] }
}

function optionsOf(text: string, parts: ReadonlyMap<string, string>): string[] {
  const propagation = parts.get('propagation')
  if (propagation !== undefined && !PROPAGATIONS.includes(propagation))
    throw malformed(text, `bind-propagation must be one of ${PROPAGATIONS.join(', ')}`)
  const given = (parts.get('options') ?? '').split(':').filter((option) => option !== '')
  const tmpfs = (['size', 'mode'] as const).flatMap((name) => {
    const value = parts.get(name)
    return value === undefined ? [] : [`${name}=${value}`]
  })
  return [...given, ...tmpfs, ...(propagation === undefined ? [] : [propagation])]
}

function checkDestination(text: string, destination: string): void {
  if (!posix.isAbsolute(destination)) throw malformed(text, 'dst must be an absolute path')
  if (posix.normalize(destination) === '/') throw malformed(text, 'dst cannot be the root')
}

function malformed(text: string, why: string): Fault {
  return new Fault('invalid-argument', `Cannot use mount ${JSON.stringify(text.slice(0, 256))}: ${why}`)
}
