/**
 * Very many events while every process of a node, nats-server among them, is killed at random: a subscriber that resumes by
 * sequence has to see each of them exactly once, and those of each writer in order.
 *
 *   sh tools/bench.sh events [--count 100000] [--every 1500]      so many events, and a kill every so many ms
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { createClient } from '@gantry/client/client'
import { startGantry } from '@gantry/e2e/harness/gantry'
import { processOf } from '@gantry/e2e/harness/kill'
import { peakOf } from '@gantry/e2e/harness/memory'
import type { Running } from '@gantry/e2e/harness/running'
import { type Client, clientOf, connect } from '@gantry/rpc/client'

const PROCESSES = ['gateway', 'metadata', 'content', 'snapshots', 'tasks', 'nats-server'] as const
const WRITERS = 32
const RESUME_EVERY = 5000 // events after which the subscriber goes away and comes back by its sequence
const NAMESPACE = 'events'
const QUIET_MS = 60_000 // without an event for so long, the rest is lost

const { values } = parseArgs({
  options: { count: { type: 'string', default: '100000' }, every: { type: 'string', default: '1500' } },
})
const count = Number(values.count)
const dir = mkdtempSync(join(tmpdir(), 'ge-'))
try {
  for (const folder of ['r', 's']) mkdirSync(join(dir, folder))
  await using node = await startGantry(join(dir, 'r'), join(dir, 's'))
  const over = new AbortController()
  const from = performance.now()
  const [heard, kills] = await Promise.all([
    listen(node.address).finally(() => over.abort()),
    killAtRandom(node, over.signal),
    write(node.address, over.signal),
  ])
  check(heard)
  const seconds = (performance.now() - from) / 1000
  const gateway = processOf(node, 'gateway')
  say(`${count} events in ${seconds.toFixed(0)} s, ${(count / seconds).toFixed(0)}/s; load ${loadavg()[0]?.toFixed(1)}`)
  say(
    `kills: ${Object.entries(kills)
      .map(([name, times]) => `${name} ${times}`)
      .join(', ')}`,
  )
  say('each was seen once, those of each writer in order, and resumed by sequence without a gap')
  if (gateway !== undefined) say(`gateway at the end: at most ${peakOf(gateway).toFixed(0)} MiB`)
} finally {
  rmSync(dir, { recursive: true, force: true })
}

/** Each writer makes images one after the other; what was not answered is tried again until it is there. */
async function write(address: string, signal: AbortSignal): Promise<void> {
  await using channel = connect(address)
  const images = clientOf(Images, channel)
  const writers = Array.from({ length: WRITERS }, async (_, writer) => {
    for (let n = writer; n < count; n += WRITERS) await create(images, `${writer}/${n}`, signal)
  })
  await Promise.all(writers)
}

async function create(images: Client<typeof Images>, name: string, signal: AbortSignal): Promise<void> {
  const target = { mediaType: 'a/b', digest: `sha256:${'0'.repeat(64)}`, size: 1n }
  while (!signal.aborted)
    try {
      await images.create({ image: { name, target } }, { signal, namespace: NAMESPACE, timeoutMs: 10_000 })
      return
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'already-exists') return // its answer was lost
      await sleep(20)
    }
}

/** The names that were told of, in order. */
async function listen(address: string): Promise<string[]> {
  const names: string[] = []
  let from = 0n
  while (names.length < count) {
    await using client = createClient({ address, namespace: NAMESPACE })
    const stop = new AbortController()
    const until = Math.min(count, names.length + RESUME_EVERY)
    let timer = setTimeout(() => stop.abort(), QUIET_MS)
    for await (const { sequence = 0n, json } of client.events.subscribe(
      { filters: ['topic=="/images/create"'], from },
      stop.signal,
    )) {
      clearTimeout(timer)
      timer = setTimeout(() => stop.abort(), QUIET_MS)
      if (sequence < from) throw new Error(`Event ${sequence} came after ${from - 1n}`)
      from = sequence + 1n
      names.push(String(Object(json).name))
      if (names.length === until) break
    }
    clearTimeout(timer)
    if (names.length < until)
      throw new Error(`${names.length} of ${count} events came, and then none for ${QUIET_MS} ms`)
  }
  return names
}

async function killAtRandom(node: Running, signal: AbortSignal): Promise<Record<string, number>> {
  const kills: Record<string, number> = {}
  while (!signal.aborted) {
    await sleep(Number(values.every) * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined)
    const name = PROCESSES[Math.floor(Math.random() * PROCESSES.length)] ?? 'gateway'
    const pid = processOf(node, name)
    if (pid === undefined || pid < 2 || signal.aborted) continue
    process.kill(pid, 'SIGKILL')
    kills[name] = (kills[name] ?? 0) + 1
  }
  return kills
}

/** @throws when one is missing, came twice, or came before an earlier one of its writer */
function check(names: readonly string[]): void {
  if (new Set(names).size !== count) throw new Error(`${names.length} events, ${new Set(names).size} of them different`)
  const last = new Map<string, number>()
  for (const name of names) {
    const [writer = '', n = ''] = name.split('/')
    if (Number(n) <= (last.get(writer) ?? -1)) throw new Error(`${name} came after ${last.get(writer)}`)
    last.set(writer, Number(n))
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
