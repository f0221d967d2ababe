/**
 * A disk of its own for each measurement: ext4 passes over the inodes that were deleted in the last minutes, one by one, so
 * on a file system where others have just deleted many, making a file takes ten times as long as on a fresh one.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const SIZE = '64G' // sparse

/** Makes and mounts a file system in a file. Disposing takes it away. */
export function freshDisk(): Disposable & { readonly dir: string } {
  const base = mkdtempSync(join(tmpdir(), 'gd-'))
  const [image, dir] = [join(base, 'image'), join(base, 'm')]
  mkdirSync(dir)
  execFileSync('truncate', ['-s', SIZE, image])
  execFileSync('mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard', image])
  execFileSync('mount', ['-o', 'loop,noinit_itable', image, dir])
  return {
    dir,
    [Symbol.dispose]() {
      execFileSync('umount', [dir])
      rmSync(base, { recursive: true })
    },
  }
}
