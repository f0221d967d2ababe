import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Applied, ApplyJob } from '../extract/job.ts'
import { DEFAULT_LIMITS } from '../extract/limits.ts'
import type { Pool } from '../extract/pool.ts'
import { archive, type Part } from './archive.ts'

const forever = new AbortController().signal
const DEFAULTS = {
  kind: 'apply',
  detect: true,
  overlay: false,
  lowers: [],
  limits: DEFAULT_LIMITS,
  sync: false,
  measure: false,
} as Partial<ApplyJob>

/** A folder to lay layers out in, and a file beside it that none of them may touch. */
export interface Sandbox extends Disposable {
  readonly base: string
  readonly root: string
  /** Lays the bytes of a blob out in `root`, unless told. */
  lay(bytes: Buffer, more?: Partial<ApplyJob>): Promise<Applied>
  apply(...parts: Part[]): Promise<Applied>
}

export function createSandbox(pool: Pool): Sandbox {
  const base = mkdtempSync(join(tmpdir(), 'gantry-sandbox-'))
  const root = join(base, 'root')
  mkdirSync(root)
  writeFileSync(join(base, 'secret'), 'outside', { mode: 0o600 })
  const lay: Sandbox['lay'] = (bytes, more) => {
    const blob = join(base, 'blob')
    writeFileSync(blob, bytes)
    return pool.run({ ...DEFAULTS, blob, root, ...more } as ApplyJob, forever)
  }
  return {
    base,
    root,
    lay,
    apply: (...parts) => lay(archive(...parts)),
    [Symbol.dispose]: () => rmSync(base, { recursive: true }),
  }
}
