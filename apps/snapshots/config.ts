import { availableParallelism } from 'node:os'
import { z } from 'zod'
import { DEFAULT_LIMITS } from './extract/limits.ts'

const count = (standard: number) => z.number().int().min(1).default(standard)

/** The `[snapshots]` table. */
export const Config = z.strictObject({
  /** Sockets of the processes asked, when they are not in the state folder. */
  metadata: z.string().startsWith('/').optional(),
  content: z.string().startsWith('/').optional(),
  /** Put on every overlay mount, such as `["volatile"]`. */
  mount_options: z.array(z.string().min(1)).default([]),
  /** Threads that extract, measure and delete: one for each core, unless told. */
  threads: z
    .number()
    .int()
    .min(1)
    .max(64)
    .default(Math.min(Math.max(availableParallelism(), 2), 16)),
  /** The most that one layer may ask for. */
  max_layer_bytes: count(DEFAULT_LIMITS.plainBytes),
  max_layer_entries: count(DEFAULT_LIMITS.entries),
  /** Bytes out for one byte in, of layers beyond a gigabyte. */
  max_layer_ratio: count(DEFAULT_LIMITS.ratio),
})
