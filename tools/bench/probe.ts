/**
 * Loaded into every process of a node (`--import`). In `snapshots` it writes down, while a file `probe-on` lies beside, how long
 * the event loop was held up at most, and what the stages of unpacking took.
 */
import { subscribe } from 'node:diagnostics_channel'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'
import type { Probed } from './probing.ts'

const TICK_MS = 50
const RESOLUTION_MS = 5 // less would cost the thread more than what it does itself

const { GANTRY_BENCH_PROBE: folder } = process.env
const [, script = ''] = process.argv
if (folder !== undefined && isMainThread && script.includes('apps/snapshots/main')) start(folder)

function start(at: string): void {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  const stages = new Map<string, number>()
  subscribe('gantry:unpack', (message) => {
    for (const [stage, ms] of Object.entries(message as Record<string, number>))
      stages.set(stage, (stages.get(stage) ?? 0) + ms)
  })
  let isOn = false
  setInterval(() => {
    if (!isOn && existsSync(join(at, 'probe-on'))) {
      isOn = true
      delay.enable()
      stages.clear()
    }
    if (!isOn) return
    const peakMiB = Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024
    const probed: Probed = {
      loopMs: delay.max / 1e6 - RESOLUTION_MS,
      peakMiB,
      stages: Object.fromEntries(stages),
      tick: Date.now(),
    }
    writeFileSync(join(at, 'probed.json'), JSON.stringify(probed))
  }, TICK_MS).unref()
}
