/** Writes small ustar archives byte by byte, also ones no honest tool would write: tests need those. */

export interface Entry {
  readonly path: string
  readonly data?: Uint8Array | string
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly link?: string
  readonly type?: 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo'
}

const TYPES = { file: '0', hardlink: '1', symlink: '2', character: '3', block: '4', directory: '5', fifo: '6' } as const
const BLOCK = 512 // bytes
const TIME_S = 1_700_000_000 // the same for every entry, so that equal trees have equal digests

export function tar(entries: readonly Entry[]): Buffer {
  return Buffer.concat([...entries.flatMap(blocks), Buffer.alloc(2 * BLOCK)])
}

function blocks(entry: Entry): Buffer[] {
  const data = Buffer.from(entry.data ?? '')
  return [header(entry, data.length), data, Buffer.alloc((BLOCK - (data.length % BLOCK)) % BLOCK)]
}

function header(entry: Entry, size: number): Buffer {
  const type = entry.type ?? (entry.link ? 'symlink' : entry.path.endsWith('/') ? 'directory' : 'file')
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at)
  block.write(entry.path, 0, 100)
  octal(entry.mode ?? (type === 'directory' ? 0o755 : 0o644), 100, 8)
  octal(entry.uid ?? 0, 108, 8)
  octal(entry.gid ?? 0, 116, 8)
  octal(size, 124, 12)
  octal(TIME_S, 136, 12)
  block.write('        ', 148)
  block.write(TYPES[type], 156)
  block.write(entry.link ?? '', 157, 100)
  block.write('ustar\x0000', 257)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}
