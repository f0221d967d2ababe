import { lutimesNs } from '@gantry/linux/file'
import { impliedBy } from './folders.ts'
import { own } from './metadata.ts'
import type { ByteString } from './tar-header.ts'
import { toPath } from './tree.ts'

/** What of a layer depends on the layers below. A layer can so be laid out before those are there. */
export interface Loose {
  /** Folders that no entry describes, outer ones first. */
  readonly implied: readonly ByteString[]
  /** It links to files that are not its own: it has to be laid out again, with the layers below at hand. */
  readonly needsBelow: boolean
}

/** Nothing is left to do. */
export const SETTLED: Loose = { implied: [], needsBelow: false }

/**
 * Settles what was left: folders that no entry describes take after the same folders below. The thread is in the jail of
 * the layer.
 * @param lowers descriptors of the roots of the layers below, nearest first
 */
export function settle({ implied }: Pick<Loose, 'implied'>, lowers: readonly number[]): void {
  for (const path of implied) {
    const below = impliedBy(lowers, path)
    if (!below) continue
    own(path, below)
    lutimesNs(toPath(path), below.atime, below.mtime)
  }
}
