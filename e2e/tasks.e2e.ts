import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { clientOf, connect } from '@gantry/rpc/client'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { onEveryTarget, RUNTIME } from './harness/target.ts'
import { complaint, rows, words } from './harness/text.ts'

onEveryTarget((target) => {
  let image = ''
  const ctr = (...args: string[]) => target().ctr(args)
  const status = async (id = 'd1') => rows((await ctr('tasks', 'ls')).stdout).find(([name]) => name === id)?.[2]
  beforeAll(async () => {
    image = await target().pull()
  })
  beforeEach(async () => {
    expect(await ctr('run', '-d', image, 'd1', 'sh', '-c', 'trap "exit 4" TERM; while :; do sleep 0.1; done')).toEqual({
      code: 0,
      stdout: '',
      stderr: '',
    })
  })
  afterEach(() => target().sweep())

  test('a detached task is listed with its process', async () => {
    const { stdout } = await ctr('tasks', 'ls')
    const [row] = rows(stdout)

    expect(row).toEqual(['d1', expect.stringMatching(/^\d+$/), 'RUNNING'])
    expect((await ctr('tasks', 'ls', '-q')).stdout).toBe('d1\n')
    expect(words((await ctr('tasks', 'ps', 'd1')).stdout)).toContain(row?.[1])
  })

  test('a process is executed in it: output, exit code, environment of the container', async () => {
    expect(await ctr('tasks', 'exec', '--exec-id', 'e1', 'd1', 'sh', '-c', 'echo $GREETING; exit 7')).toEqual({
      code: 7,
      stdout: 'hello\n',
      stderr: '',
    })
    expect(await ctr('tasks', 'exec', '--exec-id', 'e1', '--cwd', '/tmp', 'd1', 'pwd')).toEqual({
      code: 0,
      stdout: '/tmp\n',
      stderr: '',
    })
    expect((await ctr('tasks', 'exec', '--exec-id', 'e1', '--user', 'demo', 'd1', 'id', '-u')).stdout).toBe('1000\n')
  })

  test('an executed process reads its input and sees its end', async () => {
    const outcome = await target().ctr(['tasks', 'exec', '--exec-id', 'e2', 'd1', 'cat'], {
      stdin: 'in\n',
      hold: (stdout) => stdout === 'in\n',
    })

    expect(outcome).toEqual({ code: 0, stdout: 'in\n', stderr: '' })
  })

  test('an executed process has a terminal when asked for', async () => {
    const { code, stdout } = await target().ctrOnTerminal([
      'tasks',
      'exec',
      '--exec-id',
      'e3',
      '-t',
      'd1',
      'sh',
      '-c',
      'tty; sleep 0.3; exit 6',
    ])

    expect({ code, stdout }).toEqual({ code: 6, stdout: '/dev/pts/0\n' })
  })

  test('an executed process that cannot start is refused, the container stays', async () => {
    const { code, stderr } = await ctr('tasks', 'exec', '--exec-id', 'e4', 'd1', 'nosuchprogram')

    expect(code).toBe(1)
    expect(complaint(stderr)).toContain('executable file not found in $PATH')
    for (const program of ['/etc', '/etc/motd']) {
      const refused = await ctr('tasks', 'exec', '--exec-id', 'e4', 'd1', program)
      expect(complaint(refused.stderr)).toContain(`exec: "${program}": permission denied: unknown`)
    }
    expect(await status()).toBe('RUNNING')
  })

  test('a task is paused and resumed', async () => {
    expect(await ctr('tasks', 'pause', 'd1')).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(await status()).toBe('PAUSED')
    expect(await ctr('tasks', 'resume', 'd1')).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(await status()).toBe('RUNNING')
  })

  test('what runs detached is attached to: input, output, exit code', async () => {
    const script = 'read line; echo got $line; echo complaint >&2; sleep 0.5; exit 5' // ctr may leave with the exit code before the last words
    await target().ctr(['run', '-d', image, 'd2', 'sh', '-c', script], { stdin: '', hold: 5000 }) // no end of input

    const attached = await target().ctr(['tasks', 'attach', 'd2'], { stdin: 'hello\n', hold: 5000 })

    expect(attached).toEqual({ code: 5, stdout: 'got hello\n', stderr: 'complaint\n' })
    expect(await status('d2')).toBeUndefined()
    await ctr('containers', 'rm', 'd2')
  })

  test('the limits of a running task are changed', async () => {
    await using channel = connect(target().address)
    const { namespace } = target()
    const limits = { memory: { limit: 64 * 1024 * 1024 }, pids: { limit: 77 } }
    const resources = {
      typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources',
      value: Buffer.from(JSON.stringify(limits)),
    }
    const call = { namespace, signal: AbortSignal.timeout(30_000) }

    await clientOf(Tasks, channel).update({ containerId: 'd1', resources }, call)

    const figures = [limitOf(`${namespace}/d1`, 'memory'), limitOf(`${namespace}/d1`, 'pids')]
    expect(figures).toEqual(['67108864', '77'])
    await expect(clientOf(Tasks, channel).update({ containerId: 'nope', resources }, call)).rejects.toMatchObject({
      code: 'not-found',
    })
  })

  test('a checkpoint is refused without criu, and the task runs on', async () => {
    const { code, stderr } = await ctr('tasks', 'checkpoint', 'd1')

    expect([code, complaint(stderr)]).toEqual([1, expect.stringMatching(/criu/i)])
    expect(await status()).toBe('RUNNING')
  })

  test('a signal reaches the process, and the task is removed with its exit code', async () => {
    expect(await ctr('tasks', 'kill', '-s', 'SIGTERM', 'd1')).toEqual({ code: 0, stdout: '', stderr: '' })
    await until('it stopped', async () => (await status()) === 'STOPPED')

    const removed = await ctr('tasks', 'rm', 'd1')
    expect([removed.code, removed.stderr]).toEqual([
      0,
      expect.stringContaining('task d1 exit with non-zero exit code 4'),
    ])
    expect(await status()).toBeUndefined()
    expect(await ctr('containers', 'rm', 'd1')).toEqual({ code: 0, stdout: '', stderr: '' })
    expect((await ctr('snapshots', 'ls')).stdout).not.toContain('d1')
  })

  test('a killed task has the exit code 137', async () => {
    await ctr('tasks', 'kill', '-s', '9', 'd1')
    await until('it stopped', async () => (await status()) === 'STOPPED')

    expect((await ctr('tasks', 'rm', 'd1')).stderr).toContain('task d1 exit with non-zero exit code 137')
  })

  test('a task may run again in the same container', async () => {
    await ctr('tasks', 'rm', '-f', 'd1')
    const gone = await ctr('tasks', 'exec', '--exec-id', 'e5', 'd1', 'true')
    expect(complaint(gone.stderr)).toBe('no running task found: task d1 not found: not found')

    expect(await ctr('tasks', 'start', '-d', 'd1')).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(await status()).toBe('RUNNING')
  })

  test('a running task and its container are not removed', async () => {
    const task = await ctr('tasks', 'rm', 'd1')
    expect([task.code, complaint(task.stderr)]).toEqual([
      1,
      'task must be stopped before deletion: running: failed precondition',
    ])
    const container = await ctr('containers', 'rm', 'd1')
    expect([container.code, complaint(container.stderr)]).toEqual([
      1,
      'cannot delete a non stopped container: {running 0 0001-01-01 00:00:00 +0000 UTC}',
    ])
  })

  test('containers are listed, shown and labelled', async () => {
    expect(rows((await ctr('containers', 'ls')).stdout)).toEqual([['d1', image, RUNTIME]])
    expect((await ctr('containers', 'ls', '-q')).stdout).toBe('d1\n')

    const info = JSON.parse((await ctr('containers', 'info', 'd1')).stdout) as Record<string, unknown>
    expect(info).toMatchObject({
      ID: 'd1',
      Image: image,
      Runtime: { Name: RUNTIME },
      SnapshotKey: 'd1',
      Snapshotter: 'overlayfs',
      Labels: { 'io.containerd.image.config.stop-signal': 'SIGTERM' },
      Spec: { ociVersion: expect.stringMatching(/^1\./), process: { args: ['sh', '-c', expect.any(String)] } },
    })

    const labelled = await ctr('containers', 'label', 'd1', 'tier=gold')
    expect(labelled.stdout.trim().split(',').sort()).toEqual([
      'io.containerd.image.config.stop-signal=SIGTERM',
      'tier=gold',
    ])
    expect((await ctr('containers', 'ls', '-q', 'labels.tier==gold')).stdout).toBe('d1\n')
    expect((await ctr('containers', 'ls', '-q', 'labels.tier==silver')).stdout).toBe('')
  })

  test('the figures of a task are shown', async () => {
    const { code, stdout } = await ctr('tasks', 'metrics', 'd1')

    expect(code).toBe(0)
    expect(stdout).toMatch(/^ID +TIMESTAMP/)
    expect(stdout).toMatch(/memory\.usage/)
  })

  test('a task nobody knows is named', async () => {
    const answer = /container "nope".*: not found$/
    for (const args of [['kill'], ['ps'], ['pause'], ['resume'], ['rm'], ['start']]) {
      const { code, stderr } = await ctr('tasks', ...args, 'nope')
      expect([args[0], code, complaint(stderr)]).toEqual([args[0], 1, expect.stringMatching(answer)])
    }
  })

  test('a stopped task takes no signal', async () => {
    await ctr('tasks', 'kill', '-s', '9', 'd1')
    await until('it stopped', async () => (await status()) === 'STOPPED')

    const { code, stderr } = await ctr('tasks', 'kill', 'd1')
    expect([code, complaint(stderr)]).toEqual([1, 'process already finished: not found'])
  })
})

/** A limit of a cgroup, wherever this host has it. */
function limitOf(cgroup: string, controller: 'memory' | 'pids'): string {
  const v1 = join('/sys/fs/cgroup', controller, cgroup, controller === 'memory' ? 'memory.limit_in_bytes' : 'pids.max')
  const path = existsSync(v1) ? v1 : join('/sys/fs/cgroup', cgroup, `${controller}.max`)
  return readFileSync(path, 'utf8').trim()
}
