/** Groups of containers: sandboxes, and namespaces that containers share with one that runs. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { clientOf, connect } from '@gantry/rpc/client'
import { afterEach, beforeAll, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { until } from './harness/daemon.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { signal } from './harness/kill.ts'
import { onGantry } from './harness/target.ts'

const SCRIPT = 'for n in net ipc uts pid; do readlink /proc/self/ns/$n; done'

onGantry((target) => {
  const image = inject('image')
  const gantry = (...args: string[]) => run([GANTRY, ...args], { env: gantryEnv(target().address, target().namespace) })
  const output = async (...args: string[]) => {
    const { code, stdout, stderr } = await gantry(...args)
    if (code !== 0) throw new Error(stderr)
    return stdout
  }
  const sandboxes = async (): Promise<{ id: string; ready: boolean; pid: number; containers: string[] }[]> =>
    JSON.parse(await output('sandbox', 'ls', '--json'))
  const namespacesIn = async (name: string) => (await output('exec', name, 'sh', '-c', SCRIPT)).trim().split('\n')
  const killTasks = async () => {
    await signal(target(), 'tasks', 'SIGKILL')
    await until('tasks answers', async () => (await gantry('ps')).code === 0)
  }

  beforeAll(async () => {
    await target().pull()
  })
  afterEach(async () => {
    for (const { id } of await sandboxes()) await gantry('sandbox', 'rm', '-f', id)
    await target().sweep()
  })

  test('containers of a sandbox share network, ipc and name, also when tasks is killed meanwhile', async () => {
    await output('sandbox', 'run', '--name', 'pod', '-h', 'podname')
    await output('run', '-d', '--name', 'one', '--sandbox', 'pod', image, 'nc', '-ll', '-p', '80', '-e', 'hostname')
    const before = await sandboxes()

    await killTasks()
    await output('run', '-d', '--name', 'two', '--sandbox', 'pod', image, 'sleep', '1000')

    expect(await sandboxes()).toEqual([{ ...before[0], ready: true, containers: ['one', 'two'] }])
    expect(await output('exec', 'two', 'nc', '127.0.0.1', '80')).toBe('podname\n')
    const [one, two] = [await namespacesIn('one'), await namespacesIn('two')]
    expect(two.slice(0, 3)).toEqual(one.slice(0, 3))
    expect(two[3]).not.toBe(one[3]) // processes are not shared unless told
    expect((await gantry('sandbox', 'rm', 'pod')).stderr).toContain('one, two in it')
    await output('sandbox', 'rm', '-f', 'pod')
    await target().expectNoTraces()
    expect(readdirSync(join(target().dir, 'state/sandboxes/bundles', target().namespace))).toEqual([])
  })

  test('a sandbox may share processes, its end is told once and ends them', async () => {
    await output('sandbox', 'run', '--name', 'pod', '--share-pids')
    await output('run', '-d', '--name', 'one', '--sandbox', 'pod', image, 'sleep', '1000')
    expect(await output('run', '--rm', '--sandbox', 'pod', image, 'ps')).toMatch(/pause.*sleep 1000/s)
    const [{ pid = 0 } = {}] = await sandboxes()

    process.kill(pid, 'SIGKILL')

    await until('the end is known', async () => (await sandboxes())[0]?.ready === false)
    await until('its container has ended', async () => (await output('ps', '-q')) === '')
    const refused = await gantry('run', '--rm', '--sandbox', 'pod', image, 'true')
    expect(refused).toMatchObject({ code: 125, stderr: expect.stringContaining('it does not run') })
    await killTasks()
    await output('sandbox', 'rm', '-f', 'pod')
    const events = await output('events', '--no-follow', '--since', '1h', '--filter', 'topic~="/sandboxes/"', '--json')
    const topics = events
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).topic)
    expect(topics.slice(-3)).toEqual(['/sandboxes/create', '/sandboxes/start', '/sandboxes/exit'])
  })

  test('the controller answers as containerd does', async () => {
    await using channel = connect(target().address)
    const [store, controller] = [clientOf(Store, channel), clientOf(Controller, channel)]
    const call = { namespace: target().namespace, signal: AbortSignal.timeout(60_000) }
    const sandbox = { sandboxId: 'pod', sandboxer: 'shim', runtime: { name: 'io.containerd.runc.v2' } }
    const pod = { sandboxId: 'pod', sandboxer: 'shim' }
    for (const [sandboxer, code] of [
      ['', 'invalid-argument'],
      ['nobody', 'not-found'],
      ['podsandbox', 'unimplemented'],
    ] as const)
      await expect(controller.create({ sandboxId: 'pod', sandboxer }, call)).rejects.toMatchObject({ code })
    await expect(controller.create(pod, call)).rejects.toMatchObject({ code: 'not-found' }) // no record
    await expect(controller.start(pod, call)).rejects.toMatchObject({ code: 'unknown' })
    await controller.stop(pod, call)
    expect(await controller.status(pod, call)).toMatchObject({ sandboxId: 'pod', state: '', pid: 0 })

    await store.create({ sandbox }, call)
    await controller.create(pod, call)
    await expect(controller.create(pod, call)).rejects.toMatchObject({ code: 'already-exists' })
    expect((await controller.status(pod, call)).state).toBe('SANDBOX_NOTREADY')
    const { pid } = await controller.start(pod, call)
    expect(await controller.platform(pod, call)).toMatchObject({ platform: { os: 'linux' } })
    expect(await controller.metrics(pod, call)).toMatchObject({ metrics: { id: 'pod' } })
    await output('run', '-d', '--name', 'one', '--sandbox', 'pod', image, 'sleep', '1000')
    process.kill(pid, 'SIGKILL')
    expect(await controller.wait(pod, call)).toMatchObject({ exitStatus: 137 })
    expect(await output('ps', '-q')).toBe('one\n') // it has processes of its own
    await controller.stop(pod, call)
    expect(await output('ps', '-q')).toBe('')
    await controller.shutdown(pod, call)
    await expect(controller.shutdown(pod, call)).rejects.toMatchObject({ code: 'not-found' })
    await store.delete({ sandboxId: 'pod' }, call)
    await expect(store.get({ sandboxId: 'pod' }, call)).rejects.toMatchObject({ code: 'not-found' })
  })

  test('a sandbox that is stopped lets its containers end by themselves', async () => {
    await using channel = connect(target().address)
    const controller = clientOf(Controller, channel)
    const call = { namespace: target().namespace, signal: AbortSignal.timeout(60_000) }
    const pod = { sandboxId: 'pod', sandboxer: 'shim' }
    const script = 'trap "exit 5" TERM; touch /ready; while :; do sleep 0.1; done'
    await output('sandbox', 'run', '--name', 'pod')
    await output('run', '-d', '--name', 'obeys', '--sandbox', 'pod', image, 'sh', '-c', script)
    await until('it can obey', async () => (await gantry('exec', 'obeys', 'ls', '/ready')).code === 0)

    await controller.stop({ ...pod, timeoutSecs: 50 }, call)

    expect((await controller.status(pod, call)).state).toBe('SANDBOX_NOTREADY')
    expect(await output('ps', '-a')).toMatch(/obeys .*Exited \(5\)/)
  })

  test('containers share network, ipc and processes with one that runs', async () => {
    const script = 'for n in net ipc pid; do readlink /proc/self/ns/$n; done'
    await gantry('run', '-d', '--name', 'first', image, 'sleep', '1000')
    const { stdout } = await gantry('exec', 'first', 'sh', '-c', script)
    const flags = ['--net', 'container:first', '--ipc', 'container:first', '--pid', 'container:first']

    expect(await gantry('run', '--rm', ...flags, image, 'sh', '-c', script)).toEqual({ code: 0, stdout, stderr: '' })
    expect((await gantry('run', '--rm', ...flags, image, 'ps')).stdout).toContain('sleep 1000')
    await gantry('run', '-d', '--name', 'second', '--net', 'container:first', image, 'sleep', '1000')
    await output('restart', '-t', '0', 'first', 'second')
    const nets = await Promise.all(
      ['first', 'second'].map((name) => output('exec', name, 'readlink', '/proc/self/ns/net')),
    )
    expect(nets[1]).toBe(nets[0])
    await gantry('kill', 'first')
    expect(await gantry('run', '--rm', ...flags, image, 'true')).toMatchObject({
      code: 125,
      stderr: expect.stringContaining('it is not running'),
    })
  })
})
