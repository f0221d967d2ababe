/** A node of which each process is a container of docker-compose: brought up, changed part by part, and taken down. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { until } from './harness/daemon.ts'
import { startDocker } from './harness/docker.ts'
import { WORKSPACE } from './harness/gantry.ts'
import { lastingTraces, removeNamespaceCgroups } from './harness/leaks.ts'
import { rows } from './harness/text.ts'

const FOLDER = join(WORKSPACE, 'tools', 'compose')
const PROCESSES = ['metadata', 'content', 'snapshots', 'gateway', 'tasks', 'nats']
const NAMESPACE = `compose${process.pid}`
const PATIENCE = { withinMs: 60_000 }
const CONTAINER = ['sh', '-c', 'trap "exit 7" TERM; while :; do sleep 0.1; done']

const dir = mkdtempSync(join(tmpdir(), 'gc-')) // short, because a socket's path may not be longer than 107 bytes
const [root, state] = [join(dir, 'r'), join(dir, 's')]
let env: Record<string, string>

const compose = async (...args: string[]) =>
  expect(
    await run(['docker-compose', '-p', 'node', '-f', join(FOLDER, 'compose.yaml'), ...args], {
      env,
      timeoutMs: 90_000,
    }),
  ).toMatchObject({ code: 0 })
const ctr = (...args: string[]) => run(['ctr', '-a', join(state, 'gantry.sock'), '-n', NAMESPACE, ...args])
const isUp = async () => (await ctr('tasks', 'ls')).code === 0 && (await ctr('images', 'ls')).code === 0
const statusOf = async (id: string) => rows((await ctr('tasks', 'ls')).stdout).find(([name]) => name === id)

const stack = new AsyncDisposableStack()

beforeAll(async () => {
  stack.defer(async () => {
    removeNamespaceCgroups([NAMESPACE, 'gantry-monitors'])
    expect(await lastingTraces({ dir, namespaces: [NAMESPACE, 'gantry-monitors'] })).toEqual([])
    rmSync(dir, { recursive: true })
  })
  mkdirSync(state)
  expect(await run(['mount', '--bind', state, state])).toMatchObject({ code: 0 })
  stack.defer(async () => void expect(await run(['umount', state])).toMatchObject({ code: 0 }))
  await run(['mount', '--make-shared', state]) // as everything is where systemd started
  const { host } = stack.use(await startDocker())
  env = { DOCKER_HOST: host, GANTRY_ROOT: root, GANTRY_STATE: state, GANTRY_NATS_PORT: String(await freePort()) }
  expect(await run(['sh', join(FOLDER, 'image.sh')], { env, timeoutMs: 120_000 })).toMatchObject({ code: 0 })
  stack.defer(() => compose('down', '-t', '20'))
  await compose('up', '-d')
  await until('the node answers', isUp, PATIENCE)
}, 240_000)

afterAll(() => stack.disposeAsync(), 120_000)

test('an image is pulled and run from the host, through the containers', async () => {
  expect(await ctr('images', 'pull', '--plain-http', inject('image'))).toMatchObject({ code: 0 })

  expect(await ctr('run', '--rm', inject('image'), 'one', 'echo', 'hello')).toMatchObject({
    code: 0,
    stdout: 'hello\n',
  })
})

test('each part is restarted alone, and what runs goes on', async () => {
  await ctr('run', '-d', inject('image'), 'two', ...CONTAINER)
  const running = await statusOf('two')

  for (const name of PROCESSES) {
    await compose('restart', '-t', '20', name)
    await until(`${name} is back`, isUp, PATIENCE)
    expect(await ctr('tasks', 'exec', '--exec-id', `in-${name}`, 'two', 'echo', name)).toMatchObject({
      code: 0,
      stdout: `${name}\n`,
    })
  }

  expect(running).toEqual(['two', expect.any(String), 'RUNNING'])
  expect(await statusOf('two')).toEqual(running)
})

test('the exit of a container that ended while nobody supervised it is told later', async () => {
  const [, pid] = (await statusOf('two')) ?? []
  await compose('kill', '-s', 'SIGKILL', 'tasks')

  process.kill(Number(pid), 'SIGTERM')
  await compose('start', 'tasks')
  await until('tasks is back', isUp, PATIENCE)

  expect(await statusOf('two')).toEqual(['two', pid, 'STOPPED'])
  expect((await ctr('tasks', 'rm', 'two')).stderr).toContain('exit code 7')
  expect((await ctr('containers', 'rm', 'two')).code).toBe(0)
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address ? address.port : 0
}
