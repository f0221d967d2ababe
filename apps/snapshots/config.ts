import { availableParallelism } from 'node:os'
import { z } from 'zod'
import { DEFAULT_LIMITS } from './extract/limits.ts'

const count = (standard: number) => z.number().int().min(1).default(standard)

/** Snapshotters are named in labels and lease resources. */
const Name = z.string().regex(/^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/, 'must be letters, digits and single . _ -')

/** A snapshotter that another process keeps. */
const Remote = z.strictObject({
  /** Its socket. */
  address: z.string().startsWith('/'),
  /** What it is asked for, when that is not the name it has here. */
  snapshotter: z.string().min(1).optional(),
  /** What Introspection tells clients of it. */
  capabilities: z.array(z.string().min(1)).default([]),
})

/** A program that turns layers of some media types into one of another. */
const StreamProcessor = z.strictObject({
  accepts: z.array(z.string().min(1)).min(1),
  returns: z.string().min(1),
  /** Looked for in PATH when it names no folder. */
  path: z.string().min(1),
  args: z.array(z.string()).default([]),
  /** `KEY=value`. */
  env: z.array(z.string().regex(/^[^=\0]+=[^\0]*$/, 'must look like KEY=value')).default([]),
})

/** The `[snapshots]` table. */
export const Config = z.strictObject({
  /** Sockets of the processes asked, when they are not in the state folder. */
  metadata: z.string().startsWith('/').optional(),
  content: z.string().startsWith('/').optional(),
  /** Put on every overlay mount, such as `["volatile"]`. */
  mount_options: z.array(z.string().min(1)).default([]),
  /** May clients make copies with other owners, file by file, where the kernel cannot map ids? */
  slow_chown: z.boolean().default(false),
  /** Snapshotters of other processes, by the name that clients use: `[snapshots.proxy.stargz]`. */
  proxy: z.record(Name, Remote).default({}),
  /** Names under which another daemon has a snapshotter of ours as its proxy plugin, and which one that is. */
  exports: z.record(Name, z.string().min(1)).default({ gantry: 'overlayfs' }),
  /** Threads that extract, measure and delete: one for each core, unless told. */
  threads: z
    .number()
    .int()
    .min(1)
    .max(64)
    .default(Math.min(Math.max(availableParallelism(), 2), 16)),
  /** By the ids of their payloads, as containerd's: `[snapshots.stream_processors."io.containerd.ocicrypt.decoder.v1.tar"]`. */
  stream_processors: z.record(z.string().min(1), StreamProcessor).default({}),
  /** The most that one layer may ask for. */
  max_layer_bytes: count(DEFAULT_LIMITS.plainBytes),
  max_layer_entries: count(DEFAULT_LIMITS.entries),
  /** Bytes out for one byte in, of layers beyond a gigabyte. */
  max_layer_ratio: count(DEFAULT_LIMITS.ratio),
})
