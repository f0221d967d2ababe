/** What a node's `snapshots` tells of itself while it is measured. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { until } from '@gantry/e2e/harness/daemon'

export interface Probed {
  /** How long its event loop was held up at most, in ms. */
  readonly heldMs: number
  /** The same without the time in which it was ready to run and had no processor. */
  readonly workedMs: number
  readonly peakMiB: number
  /** Milliseconds of all layers together, by what was done. */
  readonly stages: Readonly<Record<string, number>>
  /** When this was written, in ms since 1970. */
  readonly tick: number
}

/** A folder in memory: on the disk that is measured, a process that writes down what it measures waits for others' syncs. */
export function probeFolder(): Disposable & { readonly folder: string } {
  const folder = mkdtempSync('/dev/shm/gantry-probe-')
  return { folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) }
}

/** Starts a node that writes what it measures into `folder`. */
export async function startProbed<T>(folder: string, start: () => Promise<T>): Promise<T> {
  process.env.GANTRY_BENCH_PROBE = folder
  process.env.NODE_OPTIONS = `--import ${fileURLToPath(new URL('./probe.ts', import.meta.url))}`
  try {
    return await start()
  } finally {
    delete process.env.GANTRY_BENCH_PROBE
    delete process.env.NODE_OPTIONS
  }
}

/** What counts begins now. */
export async function beginProbe(folder: string): Promise<void> {
  writeFileSync(join(folder, 'probe-on'), '')
  await until('the probe is on', () => existsSync(join(folder, 'probed.json')))
}

/** What was measured until now. */
export async function readProbe(folder: string): Promise<Probed> {
  const asked = Date.now()
  const read = (): Probed => JSON.parse(readFileSync(join(folder, 'probed.json'), 'utf8'))
  await until('the probe tells', () => read().tick > asked)
  return read()
}
