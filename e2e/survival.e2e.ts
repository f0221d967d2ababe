/** kill -9 of every process of a node in turn, while a container runs and a subscriber listens. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient, type GantryClient } from '@gantry/client/client'
import type { Envelope } from '@gantry/client/events'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { signal, untilReplaced } from './harness/kill.ts'
import { largeImage } from './harness/large-image.ts'
import { openRegistry } from './harness/registry.ts'
import { onGantry, type Target } from './harness/target.ts'
import { rows } from './harness/text.ts'

const PROCESSES = ['gateway', 'metadata', 'content', 'snapshots', 'tasks', 'nats-server'] as const
/** What is told about a container that runs, has a process executed in it, is ended and removed. */
const LIFE = [
  '/snapshot/prepare',
  '/containers/create',
  '/tasks/create',
  '/tasks/start',
  '/tasks/exec-added',
  '/tasks/exec-started',
  '/tasks/exit',
  '/tasks/exit',
  '/tasks/delete',
  '/snapshot/remove',
  '/containers/delete',
]

onGantry((target) => {
  let image = ''
  let client: GantryClient
  const stop = new AbortController()
  const heard: Envelope[] = []
  let listening: Promise<void>
  const about = (id: string) => heard.filter(({ json }) => containerOf(json) === id).map(({ topic }) => topic)

  beforeAll(async () => {
    image = await target().pull()
    client = createClient({ address: target().address, namespace: target().namespace })
    listening = (async () => {
      for await (const envelope of client.events.subscribe({}, stop.signal)) heard.push(envelope)
    })()
    listening.catch(() => {}) // awaited at the end
    let round = 0
    await until('the subscriber hears', async () => {
      await target().ctr(['ns', 'label', target().namespace, `round=${round++}`])
      return heard.length > 0
    })
  })
  afterAll(async () => {
    stop.abort()
    await listening.catch((error) => {
      if (!stop.signal.aborted) throw error
    })
    await client[Symbol.asyncDispose]()
  })

  test.each(PROCESSES)('the container goes on and the node heals when %s is killed', async (name) => {
    const id = `keep-${name}`
    expect(
      (await target().ctr(['run', '-d', image, id, 'sh', '-c', 'trap "exit 6" TERM; while :; do sleep 0.1; done']))
        .code,
    ).toBe(0)
    const pid = await pidOf(target(), id)

    const before = await signal(target(), name, 'SIGKILL')
    await untilReplaced(target(), name, before)

    await until(
      'the task is still reported as running, with the same process',
      async () => (await pidOf(target(), id)) === pid,
    )
    expect(await target().ctr(['tasks', 'exec', '--exec-id', 'e', id, 'echo', 'alive'])).toEqual({
      code: 0,
      stdout: 'alive\n',
      stderr: '',
    })
    expect((await target().ctr(['tasks', 'kill', '-s', 'SIGTERM', id])).code).toBe(0)
    await until('it stopped', async () => (await statusOf(target(), id)) === 'STOPPED')
    const removed = await target().ctr(['tasks', 'rm', id])
    expect(removed.stderr).toContain('exit code 6')
    expect((await target().ctr(['containers', 'rm', id])).code).toBe(0)

    await until('the subscriber heard everything', () => about(id).length >= LIFE.length, {
      context: () => JSON.stringify(about(id)),
    })
    // each service's events keep their order; what waited while NATS was away may arrive after another service's
    expect(byService(about(id))).toEqual(byService(LIFE))
    if (name !== 'nats-server') expect(about(id)).toEqual(LIFE)
  })

  test('a container that ends while tasks is down is reported with its exit code', async () => {
    const id = 'ends-alone'
    const mount = `type=bind,src=${target().dir},dst=/host,options=bind:ro`
    const script = 'until [ -e /host/end ]; do sleep 0.1; done; exit 23'
    await target().ctr(['run', '-d', '--mount', mount, image, id, 'sh', '-c', script])
    const pid = await pidOf(target(), id)

    await signal(target(), 'tasks', 'SIGSTOP') // it must not be restarted before the container ends
    writeFileSync(join(target().dir, 'end'), '')
    await until('the container ended', () => !alive(pid))
    await signal(target(), 'tasks', 'SIGKILL')

    await until('it is reported as stopped', async () => (await statusOf(target(), id)) === 'STOPPED')
    expect((await target().ctr(['tasks', 'rm', id])).stderr).toContain('exit code 23')
    await target().ctr(['containers', 'rm', id])
    await until('the end was heard', () => about(id).includes('/containers/delete'))
    expect(about(id).filter((topic) => topic === '/tasks/exit')).toHaveLength(1)
    expect(heard.find(({ topic, json }) => topic === '/tasks/exit' && containerOf(json) === id)?.json).toMatchObject({
      exit_status: 23,
    })
  })

  test('containers start and stop without NATS, and the events of that time arrive later', async () => {
    await signal(target(), 'nats-server', 'SIGSTOP') // there, but it answers nobody

    const outcome = await target().ctr(['run', '--rm', image, 'offline', 'sh', '-c', 'exit 8'])
    await signal(target(), 'nats-server', 'SIGCONT')

    expect(outcome.code).toBe(8)
    await until('the events arrived', () => about('offline').length >= 8)
    expect([...about('offline')].sort()).toEqual(
      [
        '/snapshot/prepare',
        '/containers/create',
        '/tasks/create',
        '/tasks/start',
        '/tasks/exit',
        '/tasks/delete',
        '/snapshot/remove',
        '/containers/delete',
      ].sort(),
    )
  })

  test.each(['content', 'snapshots', 'metadata'])(
    'a pull that loses %s on the way succeeds when it is tried again',
    async (name) => {
      const reference = await openRegistry(inject('registry')).push(
        `large-${name}`,
        '1',
        largeImage(PROCESSES.indexOf(name as 'content')),
      )
      const pull = () => target().ctr(['images', 'pull', '--plain-http', reference])

      const first = pull()
      await sleep(250)
      const before = await signal(target(), name, 'SIGKILL')
      await first
      await untilReplaced(target(), name, before)

      expect((await pull()).code).toBe(0)
      expect((await target().ctr(['images', 'check', `name==${reference}`])).stdout).toContain('complete (4/4)')
      await target().ctr(['images', 'rm', reference])
    },
  )

  test('whatever is killed at whatever moment of a run, the next run works and nothing lasts', async () => {
    const moments = PROCESSES.flatMap((name) => [20, 80, 150].map((ms) => [name, ms] as const))
    for (const [round, [name, ms]] of moments.entries()) {
      const running = target().ctr(['run', '--rm', image, `chaos-${round}`, 'true'])
      await sleep(ms)
      await signal(target(), name, 'SIGKILL')
      await running // it may fail: its client does not try again
    }
    await until(
      'the node heals',
      async () => (await target().ctr(['run', '--rm', image, 'healed', 'echo', 'ok'])).stdout === 'ok\n',
    )
    await target().sweep()
  })

  test('no event came twice, and the log has no gap', () => {
    const sequences = heard.map(({ sequence }) => sequence).filter((sequence) => sequence !== undefined)

    expect(sequences).toHaveLength(heard.length)
    const [first = 0n] = sequences
    expect(sequences).toEqual(sequences.map((_, index) => first + BigInt(index)))
  })

  test('the log is read again from the start by whoever comes later', async () => {
    const later: Envelope[] = []
    const enough = new AbortController()
    const [first] = heard
    const reading = (async () => {
      for await (const envelope of client.events.subscribe({ from: first?.sequence ?? 0n }, enough.signal))
        later.push(envelope)
    })().catch(() => {})

    await until('everything came again', () => later.length >= heard.length)
    enough.abort()
    await reading
    expect(later.slice(0, heard.length).map(({ sequence, topic }) => [sequence, topic])).toEqual(
      heard.map(({ sequence, topic }) => [sequence, topic]),
    )
  })
})

function byService(topics: readonly string[]): Partial<Record<string, string[]>> {
  return Object.groupBy(topics, (topic) => topic.split('/')[1] ?? '')
}

async function pidOf(target: Target, id: string): Promise<number> {
  return Number(rows((await target.ctr(['tasks', 'ls'])).stdout).find(([name]) => name === id)?.[1])
}

async function statusOf(target: Target, id: string): Promise<string | undefined> {
  return rows((await target.ctr(['tasks', 'ls'])).stdout).find(([name]) => name === id)?.[2]
}

function containerOf(event: unknown): unknown {
  const { container_id, id, key } = event as Record<string, unknown>
  return container_id ?? id ?? key
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
