/** External shims: Debian's own, one that dies, one that hangs and ones that were never any good. */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { Status } from '@gantry/api/containerd/types/task/task_pb'
import { clientOf, connect } from '@gantry/rpc/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { commandOf, family } from './harness/leaks.ts'
import { onGantry } from './harness/target.ts'
import { rows } from './harness/text.ts'

const SHIM = '/usr/bin/containerd-shim-runc-v2'
const POD_SHIM = join(import.meta.dirname, 'harness/pod-shim.ts')
const LOOP = ['sh', '-c', 'trap "exit 4" TERM; while :; do sleep 0.1; done']

onGantry((target) => {
  let image = ''
  const folder = mkdtempSync(join(tmpdir(), 'shim-'))
  beforeAll(async () => {
    image = await target().pull()
  })
  afterAll(() => rmSync(folder, { recursive: true }))
  const ctr = (...args: string[]) => target().ctr(args)
  const runBy = (shim: string, id: string, ...command: string[]) =>
    ctr('run', '-d', '--runtime', shim, image, id, ...command)
  const status = async (id: string) => rows((await ctr('tasks', 'ls')).stdout).find(([name]) => name === id)?.[2]
  /** @returns what ctr says of the exit code */
  const remove = async (id: string, ...force: string[]) => {
    const { stderr } = await ctr('tasks', 'rm', ...force, id)
    await ctr('containers', 'rm', id)
    return stderr
  }
  /** A shim that is a shell script. */
  function script(name: string, text: string): string {
    const path = join(folder, `containerd-shim-${name}-v2`)
    writeFileSync(path, `#!/bin/sh\n[ "$9" = start ] || [ "\${11}" = start ] || exit 0\n${text}\n`)
    chmodSync(path, 0o755)
    return path
  }

  /** The program of a shim that is a sandbox: its start leaves the shim behind and tells its address. */
  function podShim(protocol: string): string {
    const answer = `{"version":3,"address":"unix://'"$PWD"'/pod.sock","protocol":"${protocol}"}`
    const start = `setsid '${process.execPath}' '${POD_SHIM}' ${protocol} "$PWD/pod.sock" </dev/null >/dev/null 2>&1 &
while [ ! -e ready ]; do sleep 0.05; done
echo '${answer}'`
    return script(`pod-${protocol}`, start)
  }

  test('a container runs by a shim, its processes have their exit codes', async () => {
    expect((await runBy(SHIM, 's1', ...LOOP)).code).toBe(0)

    expect(shimsOf(target().address, 's1')).toHaveLength(1)
    expect(await ctr('tasks', 'exec', '--exec-id', 'e1', 's1', 'sh', '-c', 'echo in; exit 7')).toMatchObject({
      code: 7,
      stdout: 'in\n',
    })
    expect((await ctr('tasks', 'exec', '--exec-id', 'e1', 's1', 'nosuchprogram')).stderr).toContain(
      'executable file not',
    )
    await ctr('tasks', 'kill', 's1')
    await until('it has ended', async () => (await status('s1')) === 'STOPPED')
    expect(await remove('s1')).toContain('exit code 4')
    await until('the shim is gone', async () => shimsOf(target().address, 's1').length === 0)
  })

  test('a container and its shim outlive a kill of tasks, an exit meanwhile is told', async () => {
    await runBy(SHIM, 's2', ...LOOP)
    await runBy(SHIM, 's3', 'sh', '-c', 'sleep 0.5; exit 9')

    await killTasks()

    expect(await ctr('tasks', 'exec', '--exec-id', 'e1', 's2', 'echo', 'still')).toMatchObject({ stdout: 'still\n' })
    await until('the exit is known', async () => (await status('s3')) === 'STOPPED')
    expect(await remove('s3')).toContain('exit code 9')
    expect(await status('s2')).toBe('RUNNING')
    await remove('s2', '-f')
  })

  test('containers of one group are in one shim, each with a life of its own', async () => {
    const inGroup = (id: string) =>
      ctr('run', '-d', '--runtime', SHIM, '--annotation', 'io.containerd.runc.v2.group=g', image, id, ...LOOP)
    await inGroup('g1')
    await inGroup('g2')
    expect([shimsOf(target().address, 'g1').length, shimsOf(target().address, 'g2').length]).toEqual([1, 0])

    await killTasks()
    await ctr('tasks', 'kill', 'g1')
    await until('the first has ended', async () => (await status('g1')) === 'STOPPED')
    expect(await remove('g1')).toContain('exit code 4')
    expect(await ctr('tasks', 'exec', '--exec-id', 'e1', 'g2', 'echo', 'still')).toMatchObject({ stdout: 'still\n' })

    for (const pid of shimsOf(target().address, 'g1')) process.kill(pid, 'SIGKILL')
    await until('the end of the second is known', async () => (await status('g2')) === 'STOPPED')
    expect(await remove('g2')).toContain('exit code 137')
  })

  test('a shim that dies takes its container along, which is cleaned up', async () => {
    await runBy(SHIM, 's4', ...LOOP)
    for (const pid of shimsOf(target().address, 's4')) process.kill(pid, 'SIGKILL')

    await until('the end is known', async () => (await status('s4')) === 'STOPPED')
    expect(await remove('s4')).toContain('exit code 137')
  })

  test('a shim that hangs slows nobody, and its container can be removed', { timeout: 90_000 }, async () => {
    await runBy(SHIM, 's5', ...LOOP)
    for (const pid of shimsOf(target().address, 's5')) process.kill(pid, 'SIGSTOP')

    await killTasks() // it must not hold up the start either
    const start = performance.now()
    expect((await ctr('run', '--rm', '--runtime', SHIM, image, 's6', 'echo', 'quick')).stdout).toBe('quick\n')
    expect((await ctr('run', '--rm', image, 's7', 'echo', 'quick')).stdout).toBe('quick\n')
    expect(await status('s5')).toBe('RUNNING')
    expect(performance.now() - start).toBeLessThan(8000) // less than what a call of a shim may take

    for (const pid of shimsOf(target().address, 's5')) process.kill(pid, 'SIGKILL')
    await until('the end is known', async () => (await status('s5')) === 'STOPPED')
    expect(await remove('s5')).toContain('exit code 137')
  })

  test('shims that are no good are refused side by side, and nothing is left', async () => {
    const bad = [
      ['rubbish', 'printf "\\001\\002 rubbish"', 'something else than an address'],
      ['far', 'echo vsock://2:1024', 'only unix sockets'],
      ['lonely', 'echo unix:///run/nobody', 'nobody answers'],
      ['broken', 'echo it is broken >&2; exit 3', 'it is broken'],
      ['loud', 'yes | head -c 50000000', 'address'],
      ['stuck', 'exec sleep 1000', 'failed to start'],
    ] as const

    const outcomes = await Promise.all(bad.map(([name, text]) => runBy(script(name, text), name, 'true')))

    expect(outcomes).toEqual(
      bad.map(([, , words]) => expect.objectContaining({ code: 1, stderr: expect.stringContaining(words) })),
    )
    await ctr('containers', 'rm', ...bad.map(([name]) => name))
  })

  test('a shim that is not installed is named', async () => {
    const { stderr } = await runBy('io.containerd.nothing.v1', 's9', 'true')

    expect(stderr).toContain('containerd-shim-nothing-v1')
    await ctr('containers', 'rm', 's9')
  })

  test.each(['ttrpc', 'grpc'])(
    'a shim over %s is a sandbox: it takes containers, outlives tasks, and is ended',
    async (protocol) => {
      await using channel = connect(target().address)
      const call = { namespace: target().namespace, signal: AbortSignal.timeout(100_000) }
      const [store, controller] = [clientOf(Store, channel), clientOf(Controller, channel)]
      const [containers, tasks] = [clientOf(Containers, channel), clientOf(Tasks, channel)]
      const name = podShim(protocol)
      const [pod, box] = [{ sandboxId: 'pod', sandboxer: 'shim' }, { containerId: 'box' }]
      const spec = {
        typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec',
        value: Buffer.from('{"ociVersion":"1.0.2"}'),
      }

      await store.create({ sandbox: { ...pod, runtime: { name } } }, call)
      await controller.create(pod, call)
      const { pid, address } = await controller.start(pod, call)
      await containers.create({ container: { id: 'box', sandbox: 'pod', runtime: { name }, spec } }, call)
      await tasks.create(box, call)
      await tasks.start(box, call)
      await killTasks()

      expect(address).toMatch(`${protocol}+unix://`)
      expect(await controller.status(pod, call)).toMatchObject({ pid, state: 'SANDBOX_READY', address, version: 3 })
      expect(await tasks.get(box, call)).toMatchObject({ process: { status: Status.RUNNING } })
      await tasks.kill({ ...box, signal: 15 }, call)
      expect(await tasks.wait(box, call)).toMatchObject({ exitStatus: 143 })
      await tasks.delete(box, call)
      await containers.delete({ id: 'box' }, call)
      const ended = controller.wait(pod, call)
      if (protocol === 'grpc') process.kill(pid, 'SIGKILL')
      else await controller.stop(pod, call)
      expect(await ended).toMatchObject({ exitStatus: protocol === 'grpc' ? 137 : 3 })
      await controller.shutdown(pod, call)
      await until('the shim is gone', () => commandOf(pid) === '')
      await store.delete(pod, call)
    },
  )

  async function killTasks() {
    const tasks = () => family(target().daemon.pid).filter((pid) => commandOf(pid).includes('/tasks/'))
    const before = tasks()
    for (const pid of before) process.kill(pid, 'SIGKILL')
    await until('tasks is back', async () => tasks().some((pid) => !before.includes(pid)))
    await until('tasks answers', async () => (await ctr('tasks', 'ls')).code === 0)
  }
})

/** The pids of the shims that a node has for a container. */
function shimsOf(address: string, id: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        return words[0]?.includes('containerd-shim') && words.includes(address) && words.includes(id)
      } catch {
        return false
      }
    })
}
