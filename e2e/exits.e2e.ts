/**
 * Exits while the processes of a node are killed at random: each is told exactly once, with its code and its time. The short version
 * tells of about 40; `GANTRY_E2E_EXITS=1000 npx vitest run exits.e2e.ts` takes some minutes.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@gantry/client/client'
import type { Envelope } from '@gantry/client/events'
import { expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { processOf, signal } from './harness/kill.ts'
import { onGantry, type Target } from './harness/target.ts'

const EXITS = Number(process.env.GANTRY_E2E_EXITS ?? 40)
const VICTIMS = ['tasks', 'gateway', 'nats-server'] as const
const PAUSE_MS = EXITS > 100 ? 4000 : 1200 // before a kill; a process that lives long is started again at once
const CLIENTS = 4
const LATE_MS = 3000 // between the last line of a script and its exit, on a busy machine

/** What became of one process, by the events. */
interface Told {
  readonly starts: number
  readonly exits: readonly { readonly status: number; readonly atMs: number }[]
}

onGantry((target) => {
  test(`${EXITS} exits are told once each, whatever is killed meanwhile`, {
    timeout: EXITS * 3000 + 60_000,
  }, async () => {
    const image = await target().pull()
    const out = mkdtempSync(join(tmpdir(), 'gantry-exits-'))
    const stop = new AbortController()
    const { heard, listening } = await listen(target(), stop.signal)

    const killed: string[] = []
    const kills = killAtRandom(target(), { heard, killed }, stop.signal)
    let next = 0
    const enough = () => exitsOf(heard) >= EXITS && killed.length > 2
    const client = async () => {
      while (!enough()) await runOne(target(), { image, out, id: `e${next++}` })
    }
    await Promise.all(Array.from({ length: CLIENTS }, client))
    await until(
      'all that has started has ended',
      () => [...byProcess(heard).values()].every((told) => told.exits.length >= told.starts),
      {
        withinMs: 60_000,
        context: () => JSON.stringify([...byProcess(heard)].filter(([, told]) => told.exits.length < told.starts)),
      },
    )
    stop.abort()
    await kills
    await listening
    await until('the node answers', async () => (await target().ctr(['version'])).code === 0, { withinMs: 60_000 })
    await target().sweep()

    const all = byProcess(heard)
    const wrong = [...all].filter(([name, told]) => !isRight(name, told, out) && !isCutOff(name, all, out))
    const wrote = (name: string) => (existsSync(join(out, name)) ? readFileSync(join(out, name), 'utf8') : 'nothing')
    const found = wrong.map(([name, told]) => ({ name, ...told, wrote: wrote(name), bootMs: bootMs() }))
    rmSync(out, { recursive: true })
    expect(found).toEqual([])
  })
})

/** A container and a process beside it. Any call may fail, its server may just have been killed; then nothing is promised. */
async function runOne(target: Target, { image, out, id }: { image: string; out: string; id: string }): Promise<void> {
  const mount = `type=bind,src=${out},dst=/out,options=rbind:rw`
  const init = await target.ctr(['run', '-d', '--mount', mount, image, id, 'sh', '-c', scriptOf(id, 1)])
  if (init.code === 0)
    await target.ctr([
      'tasks',
      'exec',
      '-d',
      '--log-uri',
      'file:///dev/null',
      '--exec-id',
      `${id}x`,
      id,
      'sh',
      '-c',
      scriptOf(`${id}x`, 0.2),
    ])
  await sleep(500)
}

/** Leaves the time since boot in a file and ends with the code that goes with its name. */
function scriptOf(name: string, seconds: number): string {
  return `sleep ${seconds}; read up rest </proc/uptime; echo $up >/out/${name}; exit ${codeOf(name)}`
}

function codeOf(name: string): number {
  return (Number.parseInt(name.slice(1), 10) % 100) + (name.endsWith('x') ? 101 : 1)
}

/**
 * One after the other, sometimes the next before the last has served anybody. In between something has to have ended: where all is
 * slow, nothing ever would, since who is killed soon is started later each time.
 */
async function killAtRandom(
  target: Target,
  { heard, killed }: { heard: readonly Envelope[]; killed: string[] },
  stop: AbortSignal,
): Promise<void> {
  for (let next = 0; !stop.aborted; next = exitsOf(heard) + (Math.random() < 0.7 ? CLIENTS : 0)) {
    await until('more has ended', () => stop.aborted || exitsOf(heard) >= next, { withinMs: 60_000 })
    await sleep(PAUSE_MS * (0.5 + Math.random()), undefined, { signal: stop }).catch(() => undefined)
    if (stop.aborted) break
    const name = VICTIMS[Math.floor(Math.random() * VICTIMS.length)] ?? 'tasks'
    const before = await signal(target, name, 'SIGKILL')
    killed.push(name)
    await until(`${name} is back`, () => ![undefined, before].includes(processOf(target, name)))
  }
}

async function listen(target: Target, signal: AbortSignal): Promise<{ heard: Envelope[]; listening: Promise<void> }> {
  const heard: Envelope[] = []
  const subscribe = async () => {
    await using client = createClient({ address: target.address, namespace: target.namespace })
    for await (const envelope of client.events.subscribe({}, signal)) heard.push(envelope)
  }
  const listening = subscribe().catch((error) => {
    if (!signal.aborted) throw error
  })
  let round = 0
  await until('the subscriber hears', async () => {
    await target.ctr(['ns', 'label', target.namespace, `round=${round++}`])
    return heard.length > 0
  })
  return { heard, listening }
}

function exitsOf(heard: readonly Envelope[]): number {
  return heard.filter(({ topic }) => topic === '/tasks/exit').length
}

function byProcess(heard: readonly Envelope[]): Map<string, Told> {
  const all = new Map<string, Told>()
  for (const { topic, json } of heard) {
    const event = json as {
      container_id?: string
      exec_id?: string
      id?: string
      exit_status?: number
      exited_at?: string
    }
    const name = event.exec_id ?? event.id ?? event.container_id ?? ''
    const { starts, exits } = all.get(name) ?? { starts: 0, exits: [] }
    if (topic === '/tasks/start' || topic === '/tasks/exec-started') all.set(name, { starts: starts + 1, exits })
    if (topic === '/tasks/exit')
      all.set(name, {
        starts,
        exits: [...exits, { status: event.exit_status ?? 0, atMs: Date.parse(event.exited_at ?? '') }],
      })
  }
  return all
}

/** One start, one exit, with the code of its name, at the time that it wrote down itself. */
function isRight(name: string, { starts, exits: [exit, ...more] }: Told, out: string): boolean {
  if (starts !== 1 || exit === undefined || more.length > 0 || exit.status !== codeOf(name)) return false
  const endedMs = bootMs() + Number.parseFloat(readFileSync(join(out, name), 'utf8')) * 1000
  return exit.atMs > endedMs - 100 && exit.atMs < endedMs + LATE_MS
}

function bootMs(): number {
  return Date.now() - Number.parseFloat(readFileSync('/proc/uptime', 'utf8')) * 1000
}

/** On a busy host a container may end before the process beside it has, which is then killed with it. */
function isCutOff(name: string, all: ReadonlyMap<string, Told>, out: string): boolean {
  const [exit, ...more] = all.get(name)?.exits ?? []
  const [end] = all.get(name.replace(/x$/, ''))?.exits ?? []
  if (!name.endsWith('x') || exit?.status !== 137 || more.length > 0 || end === undefined) return false
  return !existsSync(join(out, name)) && Math.abs(exit.atMs - end.atMs) < LATE_MS
}
