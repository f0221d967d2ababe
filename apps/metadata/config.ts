import { join } from 'node:path'
import { loadConfig, type SharedConfig, socketOf } from '@gantry/service/config'
import type { Options } from '@gantry/service/process'
import { z } from 'zod'

/** The `[metadata]` table: nothing to choose yet. */
const Table = z.strictObject({})

export interface Config extends SharedConfig {
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
  const config = loadConfig('metadata', Table, options)
  return {
    ...config,
    records: join(config.root, 'metadata', 'records'),
    socket: socketOf(config, 'metadata'),
    content: socketOf(config, 'content'),
    snapshots: socketOf(config, 'snapshots'),
  }
}
