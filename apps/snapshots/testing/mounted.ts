import { mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mount, unmount } from '@gantry/linux/mount'
import type { Mount } from '../drivers/driver.ts'

/** Mounts what a snapshot says, as a client does. Disposing unmounts. */
export function mounted(mounts: readonly Mount[]): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'gantry-mounted-'))
  for (const { type, source, options } of mounts) mount({ type, source, target: path, options })
  return {
    path,
    [Symbol.dispose]() {
      for (const _ of mounts) unmount(path)
      rmdirSync(path)
    },
  }
}
