/** How a layer or an archive is compressed. */
export type Codec = 'gzip' | 'zstd' | 'none'

/** The codec by the first bytes of a blob: what the media type says is not always so. */
export function codecOf(start: Buffer): Codec {
  if (start.length >= 3 && start[0] === 0x1f && start[1] === 0x8b && start[2] === 0x08) return 'gzip'
  if (start.length < 4) return 'none'
  const magic = start.readUInt32LE()
  return magic === 0xfd2fb528 || (magic & 0xfffffff0) >>> 0 === 0x184d2a50 ? 'zstd' : 'none'
}
