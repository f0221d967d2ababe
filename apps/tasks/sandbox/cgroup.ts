import { rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { isSystemError } from '@gantry/linux/system'
import { foldersIn } from '../bundle.ts'
import { CGROUPS, isUnified } from '../cgroup.ts'

/** Removes a cgroup with all below it from every hierarchy; one that somebody is in stays. Safe to repeat. */
export function removeCgroup(path: string): void {
  const hierarchies = isUnified() ? [CGROUPS] : foldersIn(CGROUPS).map((name) => join(CGROUPS, name))
  for (const hierarchy of hierarchies) removeTree(join(hierarchy, path))
}

function removeTree(folder: string): void {
  for (const name of foldersIn(folder)) removeTree(join(folder, name))
  try {
    rmdirSync(folder)
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'EBUSY')) throw error
  }
}
