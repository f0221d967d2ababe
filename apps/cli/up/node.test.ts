import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { identify } from '@gantry/linux/process'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { stampOf } from '../fresh.cjs'
import { readProcesses } from './lock.ts'
import { runNode } from './node.ts'

vi.setConfig({ testTimeout: 30_000 }) // six processes start, perhaps on a busy machine

const APPS = ['gateway', 'tasks', 'snapshots', 'content', 'metadata']
const STUB = fileURLToPath(new URL('../testing/stub-app.ts', import.meta.url))

let dir = ''
let lines: string[] = []
let stop = new AbortController()

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'gup-'))
  lines = []
  stop = new AbortController()
  for (const folder of ['root', 'state']) mkdirSync(join(dir, folder))
  for (const app of APPS) {
    mkdirSync(join(dir, 'apps', app), { recursive: true })
    symlinkSync(STUB, join(dir, 'apps', app, 'main.ts'))
  }
})

afterEach(() => rmSync(dir, { recursive: true }))

test('a node announces itself once all serve, brings back what crashes, and stops in order', async () => {
  const running = start()
  await heard('gantry is ready on')

  bundle('content')
  process.kill(pidOf('content'), 'SIGKILL')
  await heard('content ended (signal SIGKILL): starting it again in 100 ms')
  await heard(/content: serving/, 2)
  const restarted = readProcesses(join(dir, 'state')).filter(({ restarts }) => restarts > 0)
  stop.abort()
  await running

  expect(restarted).toMatchObject([{ name: 'content', restarts: 1, lastEnd: 'signal SIGKILL' }])
  expect(lines.filter((line) => line === 'content: bundled')).toHaveLength(1) // it was there at the second start only
  expect(lines.filter((line) => line.endsWith('stopping'))).toEqual(APPS.map((app) => `${app}: stopping`))
  expect(lines.filter((line) => line.startsWith('gantry is ready'))).toHaveLength(1)
  expect(existsSync(join(dir, 'state', 'up.lock'))).toBe(false)
})

/** From now on there is a bundle of the app, which is as fresh as its source. */
function bundle(app: string): void {
  const dist = join(dir, 'apps', app, 'dist')
  mkdirSync(dist)
  writeFileSync(join(dist, 'main.mjs'), `console.log('bundled'); await import(${JSON.stringify(STUB)})`)
  writeFileSync(join(dist, 'inputs.json'), JSON.stringify([[STUB, stampOf(STUB)]]))
}

test('a second node on the same state folder is refused', async () => {
  const running = start()
  await heard('gantry is ready on')

  await expect(start()).rejects.toThrow(`gantry up already runs on it, as process ${process.pid}`)
  stop.abort()
  await running
})

test('what a killed predecessor left is stopped before anything starts', async () => {
  const leftover = spawn('sleep', ['1000'], { stdio: 'ignore' })
  const ended = once(leftover, 'exit')
  const state = join(dir, 'state')
  writeFileSync(join(state, 'up.lock'), JSON.stringify({ pid: leftover.pid, startTime: '1' })) // another start: it is dead
  writeFileSync(join(state, 'up.processes'), JSON.stringify([{ name: 'tasks', ...identify(leftover.pid ?? 0) }]))

  const running = start()
  expect(await ended).toEqual([null, 'SIGTERM'])
  await heard('gantry is ready on')
  stop.abort()
  await running

  expect(lines[0]).toBe(`tasks of an earlier gantry up still runs as process ${leftover.pid}: stopping it`)
})

test('a service that refuses to start ends the node with its reason', async () => {
  writeFileSync(join(dir, 'state', 'refuse-snapshots'), '')

  await expect(start()).rejects.toThrow('Cannot start snapshots: Cannot read the configuration: it is a test')
  expect(existsSync(join(dir, 'state', 'up.lock'))).toBe(false)
})

test('processes that cannot be remembered run all the same, once', async () => {
  mkdirSync(join(dir, 'state', 'up.processes.new')) // as on a full disk, the list cannot be written

  const running = start()
  await heard('gantry is ready on')
  stop.abort()
  await running

  expect(lines.filter((line) => line.includes(': serving as '))).toHaveLength(APPS.length)
  expect(lines.filter((line) => line.includes('starting it again'))).toEqual([])
  expect(lines.filter((line) => line.startsWith('Cannot remember that '))).toHaveLength(APPS.length)
})

function start(): Promise<void> {
  const [root, state] = [join(dir, 'root'), join(dir, 'state')]
  return runNode(
    {
      ...{ root, state, ownNats: false, apps: join(dir, 'apps'), runtime: process.execPath },
      socket: join(state, 'gantry.sock'),
      args: ['--root', root, '--state', state],
      printer: {
        line: (name, line) => void lines.push(`${name}: ${line.startsWith('{') ? JSON.parse(line).msg : line}`),
        say: (_level, message) => void lines.push(message),
        announce: (message) => void lines.push(message),
      },
    },
    { stop: stop.signal, now: new AbortController().signal },
  )
}

async function heard(what: string | RegExp, times = 1): Promise<void> {
  const matches = (line: string) => (typeof what === 'string' ? line.includes(what) : what.test(line))
  for (let waited = 0; waited < 10_000; waited += 20) {
    if (lines.filter(matches).length >= times) return
    await sleep(20)
  }
  throw new Error(`Never heard ${what}:\n${lines.join('\n')}`)
}

function pidOf(app: string): number {
  return Number(
    lines
      .find((line) => line.startsWith(`${app}: serving as `))
      ?.split(' ')
      .at(-1),
  )
}
