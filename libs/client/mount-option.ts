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

/**
 * Reads `type=bind,src=/data,dst=/data,options=rbind:ro`. The type is `bind` unless told; options are parted by colons and
 * are those of the OCI runtime spec. A bind mount without options is `rbind`.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseMount(text: string): SpecMount {
  const parts = new Map<string, string>()
  for (const field of text.split(',')) {
    const at = field.indexOf('=')
    const name = at < 0 ? undefined : ALIASES[field.slice(0, at).trim()]
    if (!name) throw malformed(text, `"${field}" is not one of type=, src=, dst=, options=`)
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
  const options = (parts.get('options') ?? '').split(':').filter((option) => option !== '')
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
