import { Fault } from '@gantry/model/fault'
import type { Limits } from './limits.ts'
import type { ByteString } from './tar-header.ts'

const MAX_COMPONENT = 255 // bytes, the kernel's bound

export const WHITEOUT = '.wh.'
const META = '.wh..wh.' // bookkeeping of AUFS, but for the next one
export const OPAQUE = '.wh..wh..opq'

/** What an entry's name asks for. */
export type Target =
  | { readonly kind: 'root' } // the layer's root itself, which keeps its own metadata
  | { readonly kind: 'ignored' }
  | { readonly kind: 'entry'; readonly folder: readonly ByteString[]; readonly base: ByteString }
  | { readonly kind: 'whiteout'; readonly folder: readonly ByteString[]; readonly base: ByteString }
  | { readonly kind: 'opaque'; readonly folder: readonly ByteString[] }

/**
 * Reads an entry's name.
 * @throws {Fault} `invalid-argument` for a name that cannot exist or a whiteout of nothing, `resource-exhausted` beyond the limits
 */
export function parseTarget(name: ByteString, limits: Limits): Target {
  const path = parsePath(name, limits)
  const base = path.at(-1)
  if (base === undefined) return { kind: 'root' }
  const folder = path.slice(0, -1)
  if (!name.includes(WHITEOUT)) return { kind: 'entry', folder, base }
  if (folder.some((component) => component.startsWith(META))) return { kind: 'ignored' }
  if (base === OPAQUE) return { kind: 'opaque', folder }
  if (base.startsWith(META)) return { kind: 'ignored' }
  if (!base.startsWith(WHITEOUT)) return { kind: 'entry', folder, base }
  const hidden = base.slice(WHITEOUT.length)
  if (hidden === '' || hidden === '.' || hidden === '..')
    throw new Fault('invalid-argument', `Cannot extract ${show(name)}: it is a whiteout of no name`)
  return { kind: 'whiteout', folder, base: hidden }
}

/**
 * The components of a name as seen from the layer's root: absolute or not is the same, and `..` ends at the root.
 * @throws {Fault} as `parseTarget`
 */
export function parsePath(name: ByteString, limits: Limits): ByteString[] {
  if (name.includes('\0')) throw new Fault('invalid-argument', `Cannot extract ${show(name)}: its name has a NUL in it`)
  if (name.length > limits.pathBytes)
    throw new Fault(
      'resource-exhausted',
      `Cannot extract ${show(name)}: its path takes ${name.length} bytes and ${limits.pathBytes} is the most`,
    )
  const path: ByteString[] = []
  for (const component of name.split('/')) {
    if (component === '' || component === '.') continue
    if (component === '..') path.pop()
    else path.push(component)
  }
  if (path.length > limits.depth)
    throw new Fault(
      'resource-exhausted',
      `Cannot extract ${show(name)}: its path is ${path.length} deep and ${limits.depth} is the most`,
    )
  if (name.length > MAX_COMPONENT && path.some((component) => component.length > MAX_COMPONENT))
    throw new Fault(
      'invalid-argument',
      `Cannot extract ${show(name)}: a part of its name is over ${MAX_COMPONENT} bytes`,
    )
  return path
}

/** A name in a message: quoted, shortened, and as text. */
export function show(name: ByteString): string {
  const text = Buffer.from(name, 'latin1').toString()
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}...` : text)
}
