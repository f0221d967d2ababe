import { join } from 'node:path'
import { loadConfig, type SharedConfig, socketOf } from '@gantry/service/config'
import type { Options } from '@gantry/service/process'
import { z } from 'zod'
import type { Thresholds } from './collect/schedule.ts'

/** When to collect, `[metadata.gc]`: names, limits and defaults are containerd's. */
const Gc = z.strictObject({
  pause_threshold: z.number().min(0.0001).max(0.5).default(0.02),
  deletion_threshold: z.number().int().min(0).default(0),
  mutation_threshold: z.number().int().min(1).default(100),
  schedule_delay_ms: z.number().int().min(0).default(0),
  startup_delay_ms: z.number().int().min(0).default(100),
})

/** The `[metadata]` table. */
const Table = z.strictObject({ gc: Gc.prefault({}) })

export interface Config extends SharedConfig {
  readonly gc: Thresholds
  /** Folder of the records. */
  readonly records: string
  /** Socket of this process. */
  readonly socket: string
  /** Sockets of the owners that are asked what they hold. */
  readonly content: string
  readonly snapshots: string
}

/** @throws {Fault} `invalid-argument` for a file that is wrong */
export function readConfig(options: Options): Config {
  const { gc, ...config } = loadConfig('metadata', Table, options)
  return {
    ...config,
    gc: {
      pause: gc.pause_threshold,
      deletions: gc.deletion_threshold,
      mutations: gc.mutation_threshold,
      delayMs: gc.schedule_delay_ms,
      startupMs: gc.startup_delay_ms,
    },
    records: join(config.root, 'metadata', 'records'),
    socket: socketOf(config, 'metadata'),
    content: socketOf(config, 'content'),
    snapshots: socketOf(config, 'snapshots'),
  }
}
