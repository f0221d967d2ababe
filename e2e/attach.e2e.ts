/** What runs goes on without us, is attached to again, and is changed meanwhile. */
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeAll, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { until } from './harness/daemon.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { onGantry } from './harness/target.ts'
import { openTerminal } from './harness/terminal.ts'

const DETACH = '\x10\x11' // ctrl-p, ctrl-q

onGantry((target) => {
  const image = inject('image')
  const env = () => gantryEnv(target().address, target().namespace)
  const gantry = (...args: string[]) => run([GANTRY, ...args], { env: env() })
  const terminal = (...args: string[]) => openTerminal([GANTRY, ...args], env())
  const piped = (command: string) => run(['sh', '-c', command], { env: { ...env(), GANTRY }, cwd: target().dir })
  const fifos = () => readdirSync(join(dirname(target().address), 'fifo'))

  beforeAll(async () => {
    await target().pull()
  })
  afterEach(() => target().sweep())

  test('a shell is left by keys and by a terminal that goes, and attached to again', async () => {
    const first = terminal('run', '-it', '--name', 'shell', image, 'sh')
    await first.shows('# ')
    first.type('x=1\n')
    first.type(DETACH)
    await first.shows('gantry attach shell')
    expect(await first.ended).toBe(0)

    const second = terminal('attach', 'shell')
    second.type('echo x is $x\n')
    await second.shows('x is 1')
    second.resize(20, 50)
    await until(
      'the size has come',
      async () => (await gantry('exec', 'shell', 'stty', '-F', '/dev/pts/0', 'size')).stdout === '20 50\n',
    )
    second.hangUp()

    const third = terminal('attach', '--detach-keys', 'ctrl-a', 'shell')
    await until('it answers', () => {
      third.type('echo still $x\n') // until the second has noticed, it may get the answer
      return third.shown().includes('still 1')
    })
    third.type(`${DETACH}\n`) // not what it listens to
    third.type('exit 7\n')
    expect(await third.ended).toBe(7)
    expect((await gantry('ps', '-a')).stdout).toMatch(/shell .*Exited \(7\)/)
    expect((await gantry('rm', 'shell')).code).toBe(0)
    expect(fifos()).toEqual([])
  })

  test('readers come and go, a container that was made for them goes on, and gets their signals', async () => {
    const count = 'trap "exit 5" INT; while read x; do echo got $x; i=0; while :; do echo $i; sleep 0.1; done; done'
    await gantry('run', '-d', '-i', '--name', 'box', image, 'sh', '-c', count)

    expect(await piped('echo abc | $GANTRY attach box | head -n 1')).toMatchObject({ code: 0, stdout: 'got abc\n' })
    expect((await piped('$GANTRY attach --no-stdin box | head -n 1')).stdout).toMatch(/^\d+\n$/)
    const interrupted = '{ $GANTRY attach --no-stdin box & p=$!; read x; kill -INT $p; wait $p; echo code $?; }'
    const told = await piped(`mkfifo f && { ${interrupted}; } < f | tee f; rm f`)
    expect(told.stdout).toMatch(/code 5\n$/)
    expect(await gantry('attach', 'box')).toMatchObject({ code: 1, stderr: expect.stringContaining('it is stopped') })
    await gantry('rm', 'box')
    expect(fifos()).toEqual([])
  })

  test('a further process is left by keys, or from the start', async () => {
    await gantry('run', '-d', '--name', 'plain', image, 'sleep', '1000')

    const shell = terminal('exec', '-it', '--detach-keys', 'ctrl-x', 'plain', 'sh')
    await shell.shows('# ')
    shell.type('touch /left\n\x18')
    expect(await shell.ended).toBe(0)
    const detached = ['exec', '-d', 'plain', 'sh', '-c', 'touch /detached; sleep 1000']
    expect(await gantry(...detached)).toEqual({ code: 0, stdout: '', stderr: '' })
    const both = async () => (await gantry('exec', 'plain', 'ls', '/left', '/detached')).code === 0
    await until('both have run', both)
    expect(await gantry('attach', 'plain')).toMatchObject({ code: 1, stderr: expect.stringContaining('goes nowhere') })
    expect(fifos()).toEqual([])
    await gantry('rm', '-f', 'plain')
  })

  test('limits and the restart policy change while it runs, and count for later starts', async () => {
    const flags = ['--ulimit', 'core=-1', '-m', '64m', '--memory-swap', '64m']
    await gantry('run', '-d', '--name', 'box', ...flags, image, 'sleep', '1000')
    const either = (first: string, second: string) => `cat /sys/fs/cgroup/${first} 2>&- || cat /sys/fs/cgroup/${second}`
    const script = `ulimit -c; ${either('memory/memory.limit_in_bytes', 'memory.max')}
      ${either('pids/pids.max', 'pids.max')}`
    const limits = async () => (await gantry('exec', 'box', 'sh', '-c', script)).stdout

    const changes = ['-m', '32m', '--memory-swap', '32m', '--pids-limit', '50', '--restart', 'on-failure:3']
    expect(await gantry('update', ...changes, 'box', 'nobody')).toMatchObject({ code: 1, stdout: 'box\n' })
    expect(await limits()).toBe('unlimited\n33554432\n50\n')
    await gantry('kill', 'box')
    await until('it has ended', async () => /Exited/.test((await gantry('ps', '-a')).stdout))
    expect((await gantry('update', '--pids-limit', '40', 'box')).code).toBe(0)
    expect((await gantry('start', 'box')).code).toBe(0)
    expect(await limits()).toBe('unlimited\n33554432\n40\n')
    expect(JSON.parse((await gantry('ps', '--json')).stdout)[0].labels).toMatchObject({
      'containerd.io/restart.policy': 'on-failure:3',
      'containerd.io/restart.status': 'running',
    })
    expect((await gantry('update', 'box')).stderr).toContain('say what is to change')
    await gantry('rm', '-f', 'box')
  })
})
