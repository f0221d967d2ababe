/** `gantry up`: a whole node in the foreground, stopped and started again around running containers. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { startGantry } from './harness/gantry.ts'
import { commandOf, family, fifoFolders, removeNamespaceCgroups, traces } from './harness/leaks.ts'
import type { Running } from './harness/running.ts'
import { rows } from './harness/text.ts'

async function inFolders(body: (dir: string, namespace: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'ge-'))
  const namespace = `e2e${dir.slice(-6)}`
  const foreignFifos = fifoFolders()
  mkdirSync(join(dir, 'root'))
  mkdirSync(join(dir, 'state'))
  try {
    await body(dir, namespace)
  } finally {
    removeNamespaceCgroups([namespace])
    const left = traces({ dir, namespaces: [namespace], foreignFifos })
    if (left.length === 0) rmSync(dir, { recursive: true })
    expect(left).toEqual([])
  }
}

test('a node stops without its containers, and adopts them when it comes back', async () => {
  await inFolders(async (dir, namespace) => {
    const image = inject('image')
    const [root, state] = [join(dir, 'root'), join(dir, 'state')]
    const ctr = (...args: string[]) => run(['ctr', '-a', join(state, 'gantry.sock'), '-n', namespace, ...args])
    const pidOf = async () =>
      rows((await ctr('tasks', 'ls')).stdout)
        .find(([id]) => id === 'stays')
        ?.slice(1)

    const first = await startGantry(root, state)
    await ctr('images', 'pull', '--plain-http', image)
    expect(
      (await ctr('run', '-d', image, 'stays', 'sh', '-c', 'trap "exit 11" TERM; while :; do sleep 0.1; done')).code,
    ).toBe(0)
    const before = await pidOf()
    expect(before?.[1]).toBe('RUNNING')
    expect(await first.daemon.stop('SIGINT')).toBe(0)
    expect(() => process.kill(Number(before?.[0]), 0)).not.toThrow()

    const second = await startGantry(root, state)
    expect(await pidOf()).toEqual(before)
    expect((await ctr('tasks', 'exec', '--exec-id', 'e', 'stays', 'echo', 'still here')).stdout).toBe('still here\n')
    await ctr('tasks', 'kill', '-s', 'SIGTERM', 'stays')
    await new Promise((resolve) => setTimeout(resolve, 700))
    expect((await ctr('tasks', 'rm', 'stays')).stderr).toContain('exit code 11')
    await ctr('containers', 'rm', 'stays')
    expect(await second.daemon.stop()).toBe(0)
  })
})

test('a container that ends while the whole node is down is reported with its exit code', async () => {
  await inFolders(async (dir, namespace) => {
    const image = inject('image')
    const [root, state] = [join(dir, 'root'), join(dir, 'state')]
    const ctr = (...args: string[]) => run(['ctr', '-a', join(state, 'gantry.sock'), '-n', namespace, ...args])

    const first = await startGantry(root, state)
    await ctr('images', 'pull', '--plain-http', image)
    await ctr('run', '-d', image, 'ends', 'sh', '-c', 'sleep 3; exit 12')
    await first.daemon.stop()
    await new Promise((resolve) => setTimeout(resolve, 3500))

    const second = await startGantry(root, state)
    expect(rows((await ctr('tasks', 'ls')).stdout)).toEqual([['ends', expect.any(String), 'STOPPED']])
    expect((await ctr('tasks', 'rm', 'ends')).stderr).toContain('exit code 12')
    await ctr('containers', 'rm', 'ends')
    await second.daemon.stop()
  })
})

test('up starts five processes and a nats-server, prefixes their logs, and ends them all', async () => {
  await inFolders(async (dir) => {
    const { daemon } = await startGantry(join(dir, 'root'), join(dir, 'state'))
    const commands = family(daemon.pid).map(commandOf).join('\n')

    for (const app of ['gateway', 'metadata', 'content', 'snapshots', 'tasks']) {
      expect(commands).toContain(`apps/${app}/main`)
      expect(daemon.log()).toMatch(new RegExp(`^\\S*${app}\\b`, 'm'))
    }
    expect(commands).toContain('nats-server')
    expect(await daemon.stop('SIGINT')).toBe(0)
    expect(readdirSync(join(dir, 'state')).filter((name) => name.endsWith('.sock'))).toEqual([])
  })
})

test('two nodes live side by side on one host', async () => {
  await inFolders(async (dir, namespace) => {
    const nodes: Running[] = []
    for (const name of ['a', 'b']) {
      mkdirSync(join(dir, name))
      nodes.push(await startGantry(join(dir, name, 'r'), join(dir, name, 's')))
    }
    const image = inject('image')
    const ctr = (index: number, ...args: string[]) =>
      run(['ctr', '-a', nodes[index]?.address ?? '', '-n', namespace, ...args])
    for (const index of [0, 1]) {
      await ctr(index, 'images', 'pull', '--plain-http', image)
      expect((await ctr(index, 'run', '--rm', image, `in${index}`, 'echo', String(index))).stdout).toBe(`${index}\n`)
    }
    for (const { daemon } of nodes) await daemon.stop()
  })
})
