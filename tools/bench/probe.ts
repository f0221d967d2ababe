/**
 * Loaded into every process of a node (`--import`). In `snapshots` it writes down, while a file `probe-on` lies beside, how long
 * the event loop was held up at most, with and without the time in which it waited for a processor, and what the stages of
 * unpacking took.
 */
import { subscribe } from 'node:diagnostics_channel'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import type { Probed } from './probing.ts'

const TICK_MS = 50
const RESOLUTION_MS = 5 // less would cost the thread more than what it does itself

const { GANTRY_BENCH_PROBE: folder } = process.env
const [, script = ''] = process.argv
if (folder !== undefined && isMainThread && /apps\/snapshots\/(dist\/)?main/.test(script)) start(folder)

function start(at: string): void {
  const stages = new Map<string, number>()
  subscribe('gantry:unpack', (message) => {
    for (const [stage, ms] of Object.entries(message as Record<string, number>))
      stages.set(stage, (stages.get(stage) ?? 0) + ms)
  })
  const loop = { heldMs: 0, workedMs: 0 }
  let isOn = false
  setInterval(() => {
    if (!isOn && existsSync(join(at, 'probe-on'))) {
      isOn = true
      watchLoop(loop)
      stages.clear()
    }
    if (!isOn) return
    const peakMiB = Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024
    const probed: Probed = {
      ...loop,
      peakMiB,
      stages: Object.fromEntries(stages),
      tick: Date.now(),
    }
    writeFileSync(join(at, 'probed.json'), JSON.stringify(probed))
  }, TICK_MS).unref()
}

/** Keeps the longest times. */
function watchLoop(longest: { heldMs: number; workedMs: number }): void {
  let [last, waited] = [performance.now(), waitedMs()]
  setInterval(() => {
    const [now, nowWaited] = [performance.now(), waitedMs()]
    const held = now - last - RESOLUTION_MS
    longest.heldMs = Math.max(longest.heldMs, held)
    longest.workedMs = Math.max(longest.workedMs, held - (nowWaited - waited))
    ;[last, waited] = [now, nowWaited]
  }, RESOLUTION_MS).unref()
}

/** How long this thread has been ready to run while others had the processors. */
function waitedMs(): number {
  return Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[1]) / 1e6
}
