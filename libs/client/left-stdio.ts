import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Stdio } from './stdio.ts'

/** Paths or URIs, '' for none. */
export interface StdioPaths {
  readonly stdin: string
  readonly stdout: string
  readonly stderr: string
}

/** The stdio of a process that this client is not joined to. Disposing it removes FIFOs that a client of `fifoDir` made. */
export function leftStdio(fifoDir: string, paths: StdioPaths): Stdio {
  return {
    paths,
    started: () => undefined,
    drained: async () => undefined,
    leave: () => undefined,
    [Symbol.dispose]() {
      const folder = dirname(paths.stdout.startsWith('/') ? paths.stdout : paths.stdin)
      if (fifoDir !== '' && dirname(folder) === fifoDir) rmSync(folder, { recursive: true, force: true })
    },
  }
}
