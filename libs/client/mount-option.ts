import { posix } from 'node:path'
import { Fault } from '@gantry/model/fault'
import type { SpecMount } from './spec.ts'

const ALIASES: Readonly<Record<string, 'type' | 'source' | 'destination' | 'options'>> = {
  type: 'type',
  src: 'source',
  source: 'source',
  dst: 'destination',
  destination: 'destination',
  target: 'destination',
  options: 'options',
}

/** Docker's way to say that a mount cannot be written. */
const READ_ONLY = new Set(['readonly', 'ro', 'readonly=true', 'ro=true', 'readonly=1', 'ro=1'])

/**
 * Reads `type=bind,src=/data,dst=/data,options=rbind:ro`. The type is `bind` unless told; options are parted by colons and
 * are those of the OCI runtime spec. A bind mount without options is `rbind`. `readonly` alone means the option `ro`.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseMount(text: string): SpecMount {
  const parts = new Map<string, string>()
  const fields = text.split(',')
  for (const field of fields.filter((field) => !READ_ONLY.has(field))) {
    const at = field.indexOf('=')
    const name = at < 0 ? undefined : ALIASES[field.slice(0, at).trim()]
    if (!name) throw malformed(text, `"${field}" is not one of type=, src=, dst=, options=, readonly`)
    if (parts.has(name)) throw malformed(text, `${name} is given twice`)
    parts.set(name, field.slice(at + 1))
  }
  const type = parts.get('type') ?? 'bind'
  const source = parts.get('source') ?? (type === 'bind' ? '' : type)
  const destination = parts.get('destination') ?? ''
  if (text.includes('\0') || type === '') throw malformed(text, 'the type is empty')
  if (!posix.isAbsolute(destination)) throw malformed(text, 'dst must be an absolute path')
  if (type === 'bind' && !posix.isAbsolute(source)) throw malformed(text, 'src must be an absolute path')
  if (posix.normalize(destination) === '/') throw malformed(text, 'dst cannot be the root')
  const given = (parts.get('options') ?? '').split(':').filter((option) => option !== '')
  const options = [...given, ...(fields.some((field) => READ_ONLY.has(field)) ? ['ro'] : [])]
  const bound = options.includes('bind') || options.includes('rbind')
  return {
    type,
    source,
    destination: posix.normalize(destination),
    options: type === 'bind' && !bound ? ['rbind', ...options] : options,
  }
}

function malformed(text: string, why: string): Fault {
  return new Fault('invalid-argument', `Cannot use mount ${JSON.stringify(text.slice(0, 256))}: ${why}`)
}
