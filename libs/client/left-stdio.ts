import { rmSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
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
      const fifo = [paths.stdout, paths.stdin].find((path) => path.startsWith('/'))
      if (fifo === undefined || fifoDir === '') return
      const folder = resolve(fifo, '..') // whoever made the process may have put dots into its paths
      if (dirname(folder) === resolve(fifoDir)) rmSync(folder, { recursive: true, force: true })
    },
  }
}
