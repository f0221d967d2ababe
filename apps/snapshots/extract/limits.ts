/** What one layer may ask for. Generous for real images, finite for bombs; each bound has its own fault. */
export interface Limits {
  /** Headers of the archive, extended ones included. */
  readonly entries: number
  /** Bytes of all the paths together that are held in memory until the end: those of folders and whiteouts. */
  readonly heldBytes: number
  /** Bytes of one path. */
  readonly pathBytes: number
  /** Components of one path. */
  readonly depth: number
  /** Bytes of one extended header (long names, attributes). */
  readonly extendedBytes: number
  /** Bytes of the value of one extended attribute. */
  readonly xattrBytes: number
  /** Bytes after decompression, those behind the end of the archive included. */
  readonly plainBytes: number
  /** Bytes out for one byte in, asked only of layers beyond `ratioFromBytes`: short zeros compress well in honest layers too. */
  readonly ratio: number
  readonly ratioFromBytes: number
}

export const DEFAULT_LIMITS: Limits = {
  entries: 3_000_000, // a million files, each with an extended header, are an honest layer
  heldBytes: 256 * 1024 ** 2,
  pathBytes: 4000, // below PATH_MAX, which counts the NUL and our leading slash
  depth: 256,
  extendedBytes: 1024 * 1024,
  xattrBytes: 64 * 1024, // the kernel's bound
  plainBytes: 64 * 1024 ** 3,
  ratio: 250,
  ratioFromBytes: 1024 ** 3,
}
