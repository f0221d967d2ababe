import type { Mount } from '../drivers/driver.ts'
import type { Pool } from '../extract/pool.ts'
import type { Trees } from './pack.ts'
import { type Mounting, mountTogether, optionOf } from './target.ts'

/** Trees to be packed, and the folder from which they are seen. Disposing takes mounts away. */
export interface OpenTrees extends AsyncDisposable {
  readonly root: string
  readonly trees: Trees
}

/** What a snapshot is compared with, and the snapshot. */
interface Sides {
  readonly left: readonly Mount[]
  readonly right: readonly Mount[]
}

/**
 * Chooses how two sets of mounts are compared: when one is the other with a folder on top, that folder says all, and
 * nothing is mounted. Everything else is mounted read-only and walked.
 * @throws {Fault} `failed-precondition` when something cannot be mounted
 */
export async function openTrees(
  { left, right }: Sides,
  { pool, ...mounting }: Mounting & { readonly pool: Pool },
  signal: AbortSignal,
): Promise<OpenTrees> {
  const [upper, ...lowers] = foldersOf(right)
  const below = foldersOf(left)
  const isOnTop = lowers.length > 0 && lowers.length === below.length && lowers.every((path, at) => path === below[at])
  if (upper !== undefined && isOnTop) {
    const marks = right[0]?.options.includes('userxattr') ? 'user.overlay.' : 'trusted.overlay.'
    if (await pool.run({ kind: 'look', root: upper, marks }, signal))
      return { root: upper, trees: { kind: 'upper', marks }, async [Symbol.asyncDispose]() {} }
  }
  const sets = { lower: left.map(readOnly), upper: right.map(readOnly) }
  return { trees: { kind: 'both' }, ...(await mountTogether(sets, mounting, signal)) }
}

/** The folders that a mount lays on top of each other, the topmost first; none when it is more than that. */
function foldersOf(mounts: readonly Mount[]): string[] {
  const [only, ...others] = mounts
  if (!only || others.length > 0 || only.target) return []
  if (only.type === 'bind') return [only.source]
  if (only.type !== 'overlay') return []
  const lowers = (optionOf(only, 'lowerdir') ?? '').split(':')
  return [optionOf(only, 'upperdir') ?? '', ...lowers].filter((path) => path !== '')
}

/** The same tree, so that nothing is changed and nobody who has it mounted is disturbed. */
function readOnly(mount: Mount): Mount {
  const options = mount.options.filter((option) => option !== 'rw' && option !== 'ro')
  const upper = mount.type === 'overlay' ? optionOf(mount, 'upperdir') : undefined
  if (upper === undefined) return { ...mount, options: [...options, 'ro'] }
  const rest = options.filter((option) => !/^(upperdir|workdir|lowerdir)=/.test(option))
  return { ...mount, options: [`lowerdir=${upper}:${optionOf(mount, 'lowerdir') ?? ''}`, ...rest, 'ro'] }
}
