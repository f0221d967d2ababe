/** Builds archives for tests, hostile ones too: nothing is checked, and every field can be given as raw bytes. */

export interface Part {
  readonly name: string
  /** Type byte; '0', a file, unless told. */
  readonly flag?: string
  readonly link?: string
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  /** Seconds since 1970. */
  readonly mtime?: number
  readonly content?: string | Buffer
  /** Other than the length of the content. */
  readonly size?: number
  readonly device?: readonly [number, number]
  /** Records of an extended header before the entry. */
  readonly pax?: Readonly<Record<string, string | Buffer>>
  /** Patches the finished header: offset and bytes. The checksum is made afterwards. */
  readonly patch?: readonly [number, Buffer]
}

/** A whole archive with its end mark. */
export function archive(...parts: readonly Part[]): Buffer {
  return Buffer.concat([...parts.map(entry), Buffer.alloc(1024)])
}

export function entry(part: Part): Buffer {
  const content = Buffer.from(part.content ?? '')
  const header = headerOf(part, part.size ?? content.length)
  return Buffer.concat([...(part.pax ? [paxOf(part.pax)] : []), header, padded(content)])
}

/** The GNU way to say a long name: an entry of its own before the entry. */
export function longName(name: string, flag: 'L' | 'K' = 'L'): Part {
  return { name: '././@LongLink', flag, content: `${name}\0` }
}

export const folder = (name: string, more: Partial<Part> = {}): Part => ({ name, flag: '5', mode: 0o755, ...more })
export const symlink = (name: string, link: string): Part => ({ name, flag: '2', link, mode: 0o777 })
export const hardLink = (name: string, link: string): Part => ({ name, flag: '1', link })
export const file = (name: string, content: string | Buffer = ''): Part => ({ name, content })

function paxOf(records: Readonly<Record<string, string | Buffer>>): Buffer {
  const content = Buffer.concat(Object.entries(records).map(([key, value]) => record(key, Buffer.from(value))))
  return Buffer.concat([headerOf({ name: 'pax', flag: 'x' }, content.length), padded(content)])
}

function record(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')])
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function headerOf(part: Part, size: number): Buffer {
  const header = Buffer.alloc(512)
  header.write(part.name.slice(0, 100), 0, 'latin1')
  header.write(octal(part.mode ?? 0o644, 7), 100)
  header.write(octal(part.uid ?? 0, 7), 108)
  header.write(octal(part.gid ?? 0, 7), 116)
  header.write(octal(size, 11), 124)
  header.write(octal(part.mtime ?? 1_600_000_000, 11), 136)
  header.write(part.flag ?? '0', 156)
  header.write((part.link ?? '').slice(0, 100), 157, 'latin1')
  header.write('ustar\x0000', 257, 'latin1')
  header.write(octal(part.device?.[0] ?? 0, 7), 329)
  header.write(octal(part.device?.[1] ?? 0, 7), 337)
  if (part.patch) part.patch[1].copy(header, part.patch[0])
  header.fill(' ', 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${octal(sum, 6)}\0 `, 148)
  return header
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0')
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)])
}
