import { channel } from 'node:diagnostics_channel'
import type { Applied } from './extract/job.ts'

/** Where benches hear what the stages of a layer took: `[stage]: milliseconds`, and what they did. */
const unpacked = channel('gantry:unpack')

/** Takes the time of stages one after the other. */
export interface Stopwatch {
  /** What was done since the last lap, or the start, was this. */
  lap(stage: string): void
  /** Tells whoever listens, if anybody does. */
  tell({ spent, size, usage }: Applied): void
}

export function startStopwatch(): Stopwatch {
  const stages: Record<string, number> = {}
  let last = performance.now()
  return {
    lap(stage) {
      const now = performance.now()
      stages[stage] = now - last
      last = now
    },
    tell({ spent, size, usage }) {
      if (unpacked.hasSubscribers)
        unpacked.publish({ ...spent, ...stages, bytes: Number(size), inodes: Number(usage.inodes) })
    },
  }
}
