/** `gantry up`: a whole node in the foreground, stopped and started again around running containers. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { until } from './harness/daemon.ts'
import { GANTRY, gantryEnv, startGantry } from './harness/gantry.ts'
import { commandOf, family, lastingTraces, processes, removeNamespaceCgroups } from './harness/leaks.ts'
import type { Running } from './harness/running.ts'
import { rows } from './harness/text.ts'

async function inFolders(body: (dir: string, namespace: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'ge-'))
  const namespace = `e2e${dir.slice(-6)}`
  mkdirSync(join(dir, 'root'))
  mkdirSync(join(dir, 'state'))
  await body(dir, namespace)
  removeNamespaceCgroups([namespace])
  expect(
    await lastingTraces({ dir, namespaces: [namespace], ids: new Set(['stays', 'ends', 'in0', 'in1', 'e']) }),
  ).toEqual([])
  rmSync(dir, { recursive: true }) // what a failed test leaves is there to be looked at
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

    await using first = await startGantry(root, state)
    await ctr('images', 'pull', '--plain-http', image)
    expect(
      (await ctr('run', '-d', image, 'stays', 'sh', '-c', 'trap "exit 11" TERM; while :; do sleep 0.1; done')).code,
    ).toBe(0)
    const before = await pidOf()
    expect(before?.[1]).toBe('RUNNING')
    expect(await first.daemon.stop('SIGINT')).toBe(0)
    expect(() => process.kill(Number(before?.[0]), 0)).not.toThrow()

    await using second = await startGantry(root, state)
    expect(await pidOf()).toEqual(before)
    expect((await ctr('tasks', 'exec', '--exec-id', 'e', 'stays', 'echo', 'still here')).stdout).toBe('still here\n')
    await ctr('tasks', 'kill', '-s', 'SIGTERM', 'stays')
    await until('it has ended', async () => (await pidOf())?.[1] === 'STOPPED')
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

    await using first = await startGantry(root, state)
    await ctr('images', 'pull', '--plain-http', image)
    const mount = `type=bind,src=${dir},dst=/host,options=bind:ro`
    await ctr(
      'run',
      '-d',
      '--mount',
      mount,
      image,
      'ends',
      'sh',
      '-c',
      `until [ -e /host/end ]; do sleep 0.1; done; exit 12`,
    )
    const [[, pid] = []] = rows((await ctr('tasks', 'ls')).stdout)
    await first.daemon.stop()
    writeFileSync(join(dir, 'end'), '')
    await until('it has ended', () => !existsSync(`/proc/${pid}`))

    await using second = await startGantry(root, state)
    expect(rows((await ctr('tasks', 'ls')).stdout)).toEqual([['ends', expect.any(String), 'STOPPED']])
    expect((await ctr('tasks', 'rm', 'ends')).stderr).toContain('exit code 12')
    await ctr('containers', 'rm', 'ends')
    await second.daemon.stop()
  })
})

test('up starts five processes and a nats-server, prefixes their logs, and ends them all', async () => {
  await inFolders(async (dir) => {
    await using node = await startGantry(join(dir, 'root'), join(dir, 'state'))
    const { daemon } = node
    const commands = family(daemon.pid).map(commandOf).join('\n')

    for (const app of ['gateway', 'metadata', 'content', 'snapshots', 'tasks']) {
      expect(commands).toContain(`apps/${app}/dist/main.mjs`)
      expect(daemon.log()).toMatch(new RegExp(`^\\S*${app}\\b`, 'm'))
    }
    expect(commands).toContain('nats-server')
    expect(await daemon.stop('SIGINT')).toBe(0)
    expect(readdirSync(join(dir, 'state')).filter((name) => name.endsWith('.sock'))).toEqual([])
  })
})

test('a node whose `up` was killed is started again, and nothing runs twice', async () => {
  await inFolders(async (dir, namespace) => {
    const [root, state] = [join(dir, 'root'), join(dir, 'state')]
    const ctr = (...args: string[]) => run(['ctr', '-a', join(state, 'gantry.sock'), '-n', namespace, ...args])
    await using first = await startGantry(root, state)
    await ctr('images', 'pull', '--plain-http', inject('image'))
    await ctr('run', '-d', inject('image'), 'stays', 'sleep', '1000')
    const before = (await ctr('tasks', 'ls')).stdout
    await first.daemon.stop('SIGKILL')

    await using second = await startGantry(root, state)
    expect((await ctr('tasks', 'ls')).stdout).toBe(before)
    const everywhere = processes({ dir, namespaces: [] }).join('\n')
    for (const app of ['gateway', 'metadata', 'content', 'snapshots', 'tasks'])
      expect(everywhere.split(`apps/${app}/dist/main.mjs`)).toHaveLength(2)
    await ctr('tasks', 'rm', '-f', 'stays')
    await ctr('containers', 'rm', 'stays')
    await second.daemon.stop()
  })
})

test('a second `up` on the same folders is refused while the first one runs', async () => {
  await inFolders(async (dir) => {
    await using node = await startGantry(join(dir, 'root'), join(dir, 'state'))
    const { daemon } = node

    const second = await run([GANTRY, 'up', '--root', join(dir, 'root'), '--state', join(dir, 'state')], {
      timeoutMs: 20_000,
    })
    expect(second.code).toBeGreaterThan(0)
    expect(second.stderr + second.stdout).toContain(String(daemon.pid))
    await daemon.stop()
  })
})

test('a node on a full disk says so, lets things go, and works again when there is room', async () => {
  await inFolders(async (dir, namespace) => {
    const [root, state] = [join(dir, 'root'), join(dir, 'state')]
    await run(['mount', '-t', 'tmpfs', '-o', 'size=48m', 'none', root])
    try {
      await using node = await startGantry(root, state)
      const { daemon, address } = node
      const gantry = (...args: string[]) => run([GANTRY, ...args], { env: gantryEnv(address, namespace) })
      writeFileSync(join(root, 'ballast'), Buffer.alloc(spaceLeft(root) - 256 * 1024))

      const full = await gantry('pull', '--plain-http', inject('image'))
      expect(full.code).toBeGreaterThan(0)
      expect(full.stderr).toMatch(/disk is full|no space/i)
      expect(full.stderr).not.toMatch(/Internal error/)

      rmSync(join(root, 'ballast'))
      await until('it pulls again', async () => (await gantry('pull', '--plain-http', inject('image'))).code === 0)
      expect((await gantry('run', '--rm', inject('image'), 'echo', 'room')).stdout).toBe('room\n')

      await run(['dd', 'if=/dev/zero', `of=${join(root, 'ballast')}`, 'bs=4k']) // until there is none at all
      expect(spaceLeft(root)).toBe(0)
      expect(await gantry('rmi', inject('image'))).toMatchObject({ code: 0, stderr: '' })
      await until('what the image took is free', () => spaceLeft(root) > 0)
      await daemon.stop()
    } finally {
      await run(['umount', root])
    }
  })
})

test('a host without an OCI runtime is told what to install', async () => {
  await inFolders(async (dir) => {
    await run(['mkdir', join(dir, 'bin')])
    for (const program of ['sh', 'readlink', 'nats-server', 'conmon', 'mount'])
      await run(['sh', '-c', `ln -s "$(command -v ${program})" ${join(dir, 'bin')}/`])

    const options = { timeoutMs: 20_000, env: { PATH: join(dir, 'bin') } }
    const { code, stderr, stdout } = await run(
      [GANTRY, 'up', '--root', join(dir, 'root'), '--state', join(dir, 'state')],
      options,
    )
    expect(code).toBeGreaterThan(0)
    expect(stderr + stdout).toMatch(/apt(-get)? install .*(runc|crun)/)
  })
})

test('two nodes live side by side on one host', async () => {
  await inFolders(async (dir, namespace) => {
    await using stack = new AsyncDisposableStack()
    const nodes: Running[] = []
    for (const name of ['a', 'b']) {
      mkdirSync(join(dir, name))
      nodes.push(stack.use(await startGantry(join(dir, name, 'r'), join(dir, name, 's'))))
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

function spaceLeft(path: string): number {
  const { bavail, bsize } = statfsSync(path)
  return bavail * bsize
}
