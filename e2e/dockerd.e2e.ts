/** Debian's dockerd in front of the daemon under test: a client that lives on events and matches the runtime's words. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { type Docker, startDocker } from './harness/docker.ts'
import { makeImage } from './harness/image.ts'
import { signal } from './harness/kill.ts'
import { onEveryTarget } from './harness/target.ts'
import { words } from './harness/text.ts'

onEveryTarget((target, name) => {
  let folder = ''
  let dockerd: Docker
  /** A dockerd with the image of the tests, flattened, as `box`. */
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'gantry-dockerd-'))
    dockerd = await startDocker(target())
    const [base] = makeImage().layers
    expect(await dockerd.docker(['import', '-', 'box'], { stdin: base?.bytes ?? '' })).toMatchObject({ code: 0 })
  }, 60_000)
  afterAll(async () => {
    await dockerd?.[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true, force: true })
  }, 60_000)
  const docker = async (...args: string[]) => (await dockerd.docker(args)).stdout.trim()
  afterEach(async () => {
    await docker('rm', '-f', ...words(await docker('ps', '-aq')))
  })
  const inspect = (format: string, name: string) => docker('inspect', '-f', format, name)
  const becomes = (format: string, name: string, value: string) =>
    until(`${name} is ${value}`, async () => (await inspect(format, name)) === value)
  const RUN = ['run', '--rm', '--network', 'none']
  const BACK = ['run', '-d', '--network', 'none']

  test('docker run prints, ends with the code of the container, and names a program that is not there', async () => {
    const hello = await dockerd.docker([...RUN, 'box', '/bin/echo', 'hello'])
    const seven = await dockerd.docker([...RUN, 'box', '/bin/sh', '-c', 'exit 7'])
    const nope = await dockerd.docker([...RUN, 'box', 'nope'])

    expect(hello).toEqual({ code: 0, stdout: 'hello\n', stderr: '' })
    expect(seven).toMatchObject({ code: 7, stdout: '' })
    expect(nope).toMatchObject({ code: 127, stderr: expect.stringContaining('executable file not found in $PATH') })
  })

  test('docker exec, pause, top, logs and stop reach a container in the background', async () => {
    await docker(...BACK, '--name', 'boat', 'box', '/bin/sh', '-c', 'echo ahoy; sleep 100')

    const inside = await dockerd.docker(['exec', 'boat', '/bin/sh', '-c', 'echo in; exit 3'])
    await docker('pause', 'boat')
    const paused = await inspect('{{.State.Status}}', 'boat')
    await docker('unpause', 'boat')
    const top = await docker('top', 'boat')
    await docker('stop', '-t', '1', 'boat')
    const state = await inspect('{{.State.Status}} {{.State.ExitCode}}', 'boat')
    const logs = await docker('logs', 'boat')

    expect(inside).toEqual({ code: 3, stdout: 'in\n', stderr: '' })
    expect({ paused, state, logs }).toEqual({ paused: 'paused', state: 'exited 137', logs: 'ahoy' })
    expect(top).toContain('sleep 100')
  })

  test('docker run -it has a terminal', async () => {
    const script = 'until [ "$(stty size 2>&1)" = "33 101" ]; do sleep 0.1; done; tty' // docker resizes after the start
    const { code, stdout } = await dockerd.dockerOnTerminal([...RUN, '-it', 'box', 'sh', '-c', script])

    expect({ code, stdout: stdout.trim() }).toEqual({ code: 0, stdout: '/dev/pts/0' })
  })

  test('docker exec names a program that is not there, passes input on, and tells of a signal', async () => {
    await docker(...BACK, '--name', 'dock', 'box', 'sleep', '100')

    const nope = await dockerd.docker(['exec', 'dock', 'nope'])
    const nowhere = await dockerd.docker(['exec', '-w', '/nowhere', 'dock', 'pwd'])
    const counted = await dockerd.docker(['exec', '-i', 'dock', 'wc', '-c'], { stdin: 'x'.repeat(300_000) })
    const killed = await dockerd.docker(['exec', 'dock', 'sh', '-c', 'kill -9 $$'])

    expect(nope).toMatchObject({ code: 126, stdout: expect.stringContaining('executable file not found in $PATH') })
    expect(nowhere).toMatchObject({ code: 126, stdout: expect.stringContaining('/nowhere') })
    expect(counted).toEqual({ code: 0, stdout: '300000\n', stderr: '' })
    expect(killed.code).toBe(137)
  })

  test('docker update, kill, restart and wait change a container that goes on', async () => {
    const script = 'trap "exit 5" TERM; trap "echo heard" HUP; echo up; while :; do sleep 0.05; done'
    await docker(...BACK, '--name', 'ferry', 'box', 'sh', '-c', script)
    await until('it is up', async () => (await docker('logs', 'ferry')) === 'up')

    const updated = await docker('update', '--pids-limit', '30', 'ferry')
    const unfit = await dockerd.docker(['update', '--cpuset-cpus', '77', 'ferry'])
    await docker('kill', '-s', 'HUP', 'ferry')
    await until('it heard', async () => (await docker('logs', 'ferry')) === 'up\nheard')
    await docker('restart', '-t', '5', 'ferry')
    await until('it is up again', async () => (await docker('logs', 'ferry')) === 'up\nheard\nup')
    const waiting = docker('wait', 'ferry')
    await docker('stop', 'ferry')
    const waited = await waiting
    const state = await inspect('{{.State.Status}} {{.State.ExitCode}} {{.HostConfig.PidsLimit}}', 'ferry')

    expect({ updated, waited, state }).toEqual({ updated: 'ferry', waited: '5', state: 'exited 5 30' })
    expect(unfit).toMatchObject({ code: 1, stderr: expect.stringContaining('77') })
  })

  test('dockerd hears that memory ran out, restarts what fails, and asks after health', async () => {
    const hungry = ['sh', '-c', 'dd if=/dev/zero of=/dev/null bs=64M count=1; sleep 1; exit 3'] // what tells of it, tells in time
    await docker(...BACK, '--name', 'oom', '-m', '16m', '--memory-swap', '16m', 'box', ...hungry)
    await docker(...BACK, '--name', 'fails', '--restart', 'on-failure:1', 'box', 'sh', '-c', 'exit 4')
    const health = ['--health-cmd', 'test -e /ok', '--health-interval', '200ms', '--health-retries', '1']
    await docker(...BACK, '--name', 'ill', ...health, 'box', 'sleep', '100')

    await becomes('{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}', 'oom', 'exited 3 true')
    await becomes('{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}', 'fails', 'exited 4 1')
    await becomes('{{.State.Health.Status}}', 'ill', 'unhealthy')
    await docker('exec', 'ill', 'touch', '/ok')
    await becomes('{{.State.Health.Status}}', 'ill', 'healthy')
  })

  // containerd forgets it when it is away for longer than a second
  if (name === 'gantry')
    test('dockerd hears of an end that came while what told it was killed', async () => {
      for (const victim of ['gateway', 'tasks']) {
        const go = join(folder, victim)
        await docker(...BACK, '--name', victim, '-v', `${folder}:/go`, 'box', 'sh', '-c', WAITS, victim)

        await signal(target(), victim, 'SIGKILL')
        writeFileSync(go, '')
        await becomes('{{.State.Status}} {{.State.ExitCode}}', victim, 'exited 9')
      }
    })
})

/** Ends when a file of its name is made. */
const WAITS = 'while ! test -e /go/$0; do sleep 0.05; done; exit 9'
