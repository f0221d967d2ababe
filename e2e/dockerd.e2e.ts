/** Debian's dockerd in front of the daemon under test: a client that lives on events and matches the runtime's words. */
import { expect, test } from 'vitest'
import { type Docker, startDocker } from './harness/docker.ts'
import { makeImage } from './harness/image.ts'
import { onEveryTarget } from './harness/target.ts'

onEveryTarget((target) => {
  /** A dockerd with the image of the tests, flattened, as `box`. */
  async function start(): Promise<Docker> {
    const docker = await startDocker(target())
    const [base] = (await makeImage()).layers
    expect(await docker.docker(['import', '-', 'box'], { stdin: base?.bytes ?? '' })).toMatchObject({ code: 0 })
    return docker
  }
  const RUN = ['run', '--rm', '--network', 'none']

  test('docker run prints, ends with the code of the container, and names a program that is not there', async () => {
    await using dockerd = await start()

    const hello = await dockerd.docker([...RUN, 'box', '/bin/echo', 'hello'])
    const seven = await dockerd.docker([...RUN, 'box', '/bin/sh', '-c', 'exit 7'])
    const nope = await dockerd.docker([...RUN, 'box', 'nope'])

    expect(hello).toEqual({ code: 0, stdout: 'hello\n', stderr: '' })
    expect(seven).toMatchObject({ code: 7, stdout: '' })
    expect(nope).toMatchObject({ code: 127, stderr: expect.stringContaining('executable file not found in $PATH') })
  })

  test('docker exec, pause, top, logs and stop reach a container in the background', async () => {
    await using dockerd = await start()
    const docker = async (...args: string[]) => (await dockerd.docker(args)).stdout.trim()
    await docker('run', '-d', '--name', 'boat', '--network', 'none', 'box', '/bin/sh', '-c', 'echo ahoy; sleep 100')

    const inside = await dockerd.docker(['exec', 'boat', '/bin/sh', '-c', 'echo in; exit 3'])
    await docker('pause', 'boat')
    const paused = await docker('inspect', '-f', '{{.State.Status}}', 'boat')
    await docker('unpause', 'boat')
    const top = await docker('top', 'boat')
    await docker('stop', '-t', '1', 'boat')
    const state = await docker('inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', 'boat')
    const logs = await docker('logs', 'boat')
    await docker('rm', 'boat')

    expect(inside).toEqual({ code: 3, stdout: 'in\n', stderr: '' })
    expect({ paused, state, logs }).toEqual({ paused: 'paused', state: 'exited 137', logs: 'ahoy' })
    expect(top).toContain('sleep 100')
  })

  test('docker run -it has a terminal', async () => {
    await using dockerd = await start()

    const { code, stdout } = await dockerd.dockerOnTerminal([...RUN, '-it', 'box', '/bin/tty'])

    expect({ code, stdout: stdout.trim() }).toEqual({ code: 0, stdout: '/dev/pts/0' })
  })
})
