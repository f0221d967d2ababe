/** Our own command line, as a user of docker or nerdctl would type it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, expect, inject, test } from 'vitest'
import { type CommandOptions, run, runOnTerminal } from './harness/command.ts'
import { startDaemon, until } from './harness/daemon.ts'
import { GANTRY, gantryEnv, WORKSPACE } from './harness/gantry.ts'
import { onGantry } from './harness/target.ts'
import { rows } from './harness/text.ts'

onGantry((target) => {
  const image = inject('image')
  const env = () => gantryEnv(target().address, target().namespace)
  const gantry = (...args: string[]) => run([GANTRY, ...args], { env: env() })
  const gantryWith = (options: CommandOptions, ...args: string[]) => run([GANTRY, ...args], { ...options, env: env() })
  const onTerminal = (options: CommandOptions, ...args: string[]) =>
    runOnTerminal([GANTRY, ...args], { ...options, env: env() })
  const shell = (flags: readonly string[], script: string) => gantry('run', '--rm', ...flags, image, 'sh', '-c', script)

  beforeAll(async () => {
    await target().pull()
  })
  afterEach(() => target().sweep())

  test('version says which client and server', async () => {
    const { code, stdout } = await gantry('version')

    expect(code).toBe(0)
    expect(stdout).toMatch(/server/i)
    expect(JSON.parse((await gantry('version', '--json')).stdout)).toBeTypeOf('object')
  })

  test('help is printed on request, an unknown command is refused', async () => {
    expect(await gantry('--help')).toMatchObject({ code: 0, stdout: expect.stringContaining('run') })
    expect((await gantry('frobnicate')).code).toBeGreaterThan(0)
  })

  test('npx finds it from the top of the working copy', async () => {
    const { code, stdout } = await run(['npx', '--no-install', 'gantry', '--version'], { cwd: WORKSPACE })

    expect([code, stdout]).toEqual([0, (await gantry('--version')).stdout])
  })

  test('pull prints plain lines when nobody looks', async () => {
    const { code, stdout, stderr } = await gantry('pull', '--plain-http', image)

    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).not.toContain('\u001b')
    expect(stdout).toContain('busybox')
  })

  test('pull draws a bar a layer on a terminal', async () => {
    const { code, stdout } = await onTerminal({ hold: 0 }, 'pull', '--plain-http', image)

    expect(code).toBe(0)
    expect(stdout).toContain('\u001b[')
  })

  test('images lists what was pulled, for people and for machines', async () => {
    const { code, stdout } = await gantry('images')

    expect(code).toBe(0)
    expect(stdout).toContain('busybox')
    expect(JSON.stringify(documents((await gantry('images', '--json')).stdout))).toContain(image)
  })

  test.each([0, 1, 9, 137])('run passes the exit code %i on', async (code) => {
    expect(await shell([], `echo out; echo err >&2; exit ${code}`)).toEqual({ code, stdout: 'out\n', stderr: 'err\n' })
  })

  test('what is created runs when it is started, again and again', async () => {
    const made = await gantry('create', '--name', 'later', image, 'sh', '-c', 'echo out; read x; echo in $x; exit 6')
    expect(made).toEqual({ code: 0, stdout: 'later\n', stderr: '' })
    expect((await gantry('ps', '-a')).stdout).toMatch(/later .*Created/)

    const attached = { code: 6, stdout: 'out\nin\n', stderr: '' }
    expect(await gantry('start', '-a', 'later')).toEqual(attached)
    expect((await gantry('ps', '-a')).stdout).toMatch(/later .*Exited \(6\)/)
    expect(await gantryWith({ stdin: 'abc\n' }, 'start', '-ai', 'later')).toEqual({
      ...attached,
      stdout: 'out\nin abc\n',
    })
    expect(await gantry('start', 'nobody', 'later')).toMatchObject({ code: 1, stdout: 'later\n' })
    await until('it has ended', async () => /Exited \(6\)/.test((await gantry('ps', '-a')).stdout))
    expect((await gantry('rm', 'later')).code).toBe(0)
  })

  test('what a detached container writes is kept where its record says, and shown', async () => {
    const file = join(target().dir, 'box.log')
    const made = ['--name', 'box', '--log-uri', `file://${file}`, image, 'sh', '-c', 'echo out; echo err >&2']

    expect((await gantry('run', '-d', ...made)).stdout).toBe('box\n')
    expect(await gantry('logs', '-f', 'box')).toEqual({ code: 0, stdout: 'out\nerr\n', stderr: '' })
    expect(await gantry('logs', '--tail', '1', 'box')).toEqual({ code: 0, stdout: 'err\n', stderr: '' })
    expect((await gantry('start', 'box')).code).toBe(0)
    expect((await gantry('logs', '-f', 'box')).stdout).toBe('out\nerr\nout\nerr\n')
    rmSync(file)
    expect(await gantry('logs', 'box')).toMatchObject({ code: 1, stderr: expect.stringContaining('no such file') })
    await run(['mkfifo', file])
    expect(await gantry('logs', 'box')).toMatchObject({ code: 1, stderr: expect.stringContaining('is no file') })
    rmSync(file)
    await until('it may be removed', async () => (await gantry('rm', 'box')).code === 0)
  })

  test('start leaves what runs alone, and takes back what cannot', async () => {
    await gantry('run', '-d', '--name', 'runs', image, 'sleep', '1000')
    await gantry('create', '--name', 'never', '--restart', 'always', image, '/no/such/program')

    expect(await gantry('start', 'runs')).toEqual({ code: 0, stdout: 'runs\n', stderr: '' })
    expect(await gantry('start', '-a', 'runs')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('runs already'),
    })
    expect(await gantry('start', 'never')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('/no/such/program'),
    })
    expect((await target().ctr(['tasks', 'ls', '-q'])).stdout).toBe('runs\n')
    await gantry('rm', '-f', 'runs', 'never')
  })

  test('run --init has a first process that passes signals on and reaps orphans', async () => {
    // an orphan that nobody reaps can be sent signals for ever
    const orphan = '(sleep 0.1 & echo $! > /tmp/pid); while kill -0 $(cat /tmp/pid) 2>&-; do sleep 0.1; done'

    expect(await shell(['--init'], `${orphan}; cat /proc/1/comm; exit 3`)).toEqual({
      code: 3,
      stdout: 'docker-init\n',
      stderr: '',
    })
    await gantry('run', '-d', '--init', '--name', 'ends', image, 'sleep', '1000')
    await gantry('kill', '-s', 'TERM', 'ends')
    await until('it has ended', async () => /Exited \(143\)/.test((await gantry('ps', '-a')).stdout))
    await gantry('rm', 'ends')
  })

  test('run --rm leaves no container', async () => {
    await shell(['--name', 'short'], 'true')

    expect((await target().ctr(['containers', 'ls', '-q'])).stdout).toBe('')
  })

  test('run -t has a terminal, run -i reads', async () => {
    expect(
      await onTerminal({}, 'run', '--rm', '-t', image, 'sh', '-c', 'tty; sleep 0.3; stty size; exit 3'),
    ).toMatchObject({
      code: 3,
      stdout: '/dev/pts/0\n33 101\n',
    })
    expect(await gantryWith({ stdin: 'abc\n', hold: 0 }, 'run', '--rm', '-i', image, 'cat')).toEqual({
      code: 0,
      stdout: 'abc\n',
      stderr: '',
    })
    expect(await gantryWith({ stdin: 'abc\n', hold: 0 }, 'run', '--rm', image, 'cat')).toEqual({
      code: 0,
      stdout: '',
      stderr: '',
    })
  })

  test('what is typed in run -it is understood', async () => {
    const { code, stdout } = await onTerminal(
      { stdin: 'echo typed $((6*7))\nexit 5\n', hold: (stdout: string) => stdout.includes('typed 42') },
      'run',
      '--rm',
      '-i',
      '-t',
      image,
      'sh',
    )

    expect(code).toBe(5)
    expect(stdout).toContain('typed 42')
  })

  test('whoever stops reading ends what prints, and a full disk is a failure', async () => {
    const piped = (command: string) => run(['sh', '-c', command], { env: { ...env(), IMAGE: image } })
    const loop = 'trap "exit 3" TERM; while :; do echo y; sleep 0.1; done'

    expect(await piped(`${GANTRY} events --since 1h | head -n 1 | wc -l`)).toEqual({
      code: 0,
      stdout: '1\n',
      stderr: '',
    })
    expect(await piped(`(${GANTRY} run --rm "$IMAGE" sh -c '${loop}'; echo $? >&2) | head -n 1`)).toEqual({
      ...{ code: 0, stdout: 'y\n', stderr: '3\n' },
    })
    expect(await piped(`${GANTRY} ps > /dev/full`)).toEqual({
      ...{ code: 1, stdout: '', stderr: expect.stringMatching(/^gantry: cannot write the output: ENOSPC.*\n$/) },
    })
  })

  test('run --env and --mount', async () => {
    const folder = mkdtempSync(join(target().dir, 'shared-'))
    writeFileSync(join(folder, 'file'), 'from the host\n')

    const flags = ['--env', 'A=b', '--mount', `type=bind,src=${folder},dst=/shared,readonly`]
    const { code, stdout } = await shell(flags, 'echo $A $GREETING; cat /shared/file; touch /shared/x')
    expect({ code, stdout }).toEqual({ code: 1, stdout: 'b hello\nfrom the host\n' })
    rmSync(folder, { recursive: true })
  })

  test('the command of the image runs when none is given', async () => {
    expect((await gantryWith({ stdin: 'echo from sh\n', hold: 0 }, 'run', '--rm', '-i', image)).stdout).toBe(
      'from sh\n',
    )
  })

  test('a detached container: run -d, ps, exec, stop, rm', async () => {
    const started = await gantry(
      'run',
      '-d',
      '--name',
      'web',
      image,
      'sh',
      '-c',
      'trap "exit 0" TERM; while :; do sleep 0.1; done',
    )
    expect({ code: started.code, stderr: started.stderr }).toEqual({ code: 0, stderr: '' })
    expect(started.stdout.trim()).not.toBe('')

    const shown = await gantry('ps')
    expect(shown.code).toBe(0)
    expect(shown.stdout).toMatch(/web/)
    expect(JSON.stringify(documents((await gantry('ps', '--json')).stdout))).toContain('web')
    expect(await gantry('exec', 'web', 'sh', '-c', 'echo in $GREETING; exit 4')).toEqual({
      code: 4,
      stdout: 'in hello\n',
      stderr: '',
    })
    expect(await gantryWith({ stdin: 'abc\n', hold: 0 }, 'exec', '-i', 'web', 'cat')).toEqual({
      code: 0,
      stdout: 'abc\n',
      stderr: '',
    })
    expect(await onTerminal({}, 'exec', '-t', 'web', 'sh', '-c', 'tty; sleep 0.3')).toMatchObject({
      code: 0,
      stdout: '/dev/pts/0\n',
    })

    expect((await gantry('rm', 'web')).code).toBeGreaterThan(0) // it runs
    expect((await gantry('stop', 'web')).code).toBe(0)
    expect(await gantry('exec', 'web', 'true')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/stopped state/),
    })
    expect(rows((await target().ctr(['tasks', 'ls'])).stdout).filter(([, , status]) => status === 'RUNNING')).toEqual(
      [],
    )
    expect((await gantry('rm', 'web')).code).toBe(0)
    expect((await target().ctr(['containers', 'ls', '-q'])).stdout).toBe('')
    expect((await target().ctr(['snapshots', 'ls'])).stdout).not.toContain('Active')
  })

  test('pause freezes a container, unpause lets it go on, top lists its processes', async () => {
    await gantry('run', '-d', '--name', 'frozen', image, 'sleep', '1000')
    const status = async () => JSON.parse((await gantry('ps', '--json')).stdout)[0]

    expect(await gantry('pause', 'frozen')).toEqual({ code: 0, stdout: 'frozen\n', stderr: '' })
    const { pid, status: paused } = await status()
    expect(paused).toBe('paused')
    expect(await gantry('pause', 'frozen')).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot pause') })
    expect(await gantry('unpause', 'frozen')).toEqual({ code: 0, stdout: 'frozen\n', stderr: '' })
    expect((await status()).status).toBe('running')
    expect(rows((await gantry('top', 'frozen')).stdout)).toEqual([[String(pid), '0', 'sleep', '1000']])
    expect(JSON.parse((await gantry('top', '--json', 'frozen')).stdout)).toEqual([
      { pid, uid: 0, command: ['sleep', '1000'] },
    ])
    await gantry('kill', 'frozen')
    await until('it has ended', async () => (await gantry('top', 'frozen')).stderr.includes('it is not running'))
    await gantry('rm', 'frozen')
    expect(await gantry('top', 'frozen')).toMatchObject({ code: 1, stdout: '' })
  })

  test('stats shows what runs, for people and for machines', async () => {
    await gantry('run', '-d', '--name', 'idle', image, 'true')
    await until('idle has ended', async () => /Exited \(0\)/.test((await gantry('ps', '-a')).stdout))
    await gantry('run', '-d', '--name', 'busy', '-m', '64m', image, 'sh', '-c', 'while :; do :; done')

    const [shown, read, idle, none] = await Promise.all([
      gantry('stats', '--no-stream'),
      gantry('stats', '--no-stream', '--json', 'busy'),
      gantry('stats', 'busy', 'idle'),
      gantry('stats', 'none'),
    ])

    expect(shown.stdout).toMatch(/^CONTAINER ID +CPU %.*\nbusy +[1-9][\d.]*% +[\d.]+[KM]iB \/ 64MiB +[\d.]+% .* 1\n$/)
    expect(JSON.parse(read.stdout)).toMatchObject({ id: 'busy', memoryLimit: 64 * 1024 ** 2, pids: 1 })
    expect(idle).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('"idle" uses: it is not running'),
    })
    expect(none).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('has none of that name') })
  })

  test('a container is looked at, waited for and restarted as in docker', async () => {
    await gantry('run', '-d', '--name', 'first', '-l', 'tier=web', image, 'sh', '-c', 'sleep 1000 & wait; exit 3')
    await gantry('create', '--name', 'second', image, 'true')
    const listed = async (...args: string[]) => (await gantry('ps', '-q', ...args)).stdout

    expect(await listed('-a', '-f', 'label=tier=web')).toBe('first\n')
    expect(await listed('-f', 'status=created')).toBe('second\n')
    const found = await gantry('inspect', 'first', image, 'nothing')
    expect(found).toMatchObject({ code: 1, stderr: expect.stringContaining('"nothing"') })
    const [container, picture] = JSON.parse(found.stdout)
    expect(container).toMatchObject({ id: 'first', status: 'running', spec: { process: { cwd: '/' } } })
    expect(picture).toMatchObject({ name: image, platform: { os: 'linux' }, size: expect.any(Number) })

    expect((await gantry('restart', '-t', '0', 'first')).stdout).toBe('first\n')
    const waiting = gantry('wait', 'first')
    expect(JSON.parse((await gantry('inspect', 'first')).stdout)[0].pid).not.toBe(container.pid)
    await gantry('kill', 'first')
    expect(await waiting).toEqual({ code: 0, stdout: '137\n', stderr: '' })
    expect((await gantry('wait', 'second')).stderr).toContain('never started')
    expect((await gantry('port', 'first')).stdout).toBe('')
    await gantry('rm', 'first', 'second')
  })

  test('kill ends a container at once, rm -f does both', async () => {
    await gantry('run', '-d', '--name', 'one', image, 'sleep', '1000')
    await gantry('run', '-d', '--name', 'two', image, 'sleep', '1000')

    expect((await gantry('kill', 'one')).code).toBe(0)
    await until(
      'it ended',
      async () =>
        !(await target().ctr(['tasks', 'ls'])).stdout.includes('RUNNING') || (await statusOf('one')) !== 'RUNNING',
    )
    expect((await gantry('rm', 'one')).code).toBe(0)
    expect((await gantry('rm', '-f', 'two')).code).toBe(0)
    expect((await target().ctr(['containers', 'ls', '-q'])).stdout).toBe('')
  })
  const statusOf = async (id: string) =>
    rows((await target().ctr(['tasks', 'ls'])).stdout).find(([name]) => name === id)?.[2]

  test('a name that is taken, a container that is not there, an image nobody has', async () => {
    await gantry('run', '-d', '--name', 'taken', image, 'sleep', '1000')

    const again = await gantry('run', '-d', '--name', 'taken', image, 'true')
    expect([again.code, again.stderr]).toEqual([125, expect.stringContaining('taken')])
    const unknown = await gantry('exec', 'nope', 'true')
    expect([unknown.code, unknown.stderr]).toEqual([expect.any(Number), expect.stringContaining('nope')])
    expect(unknown.code).toBeGreaterThan(0)
    expect((await gantry('run', '--rm', `${inject('registry')}/nope:1`, 'true')).code).toBeGreaterThan(0)
    const missing = await gantry('run', '--rm', image, 'nosuchprogram')
    expect([missing.code, missing.stderr]).toEqual([127, expect.stringContaining('nosuchprogram')])
  })

  test('rmi takes a name away', async () => {
    await target().ctr(['images', 'tag', image, 'docker.io/library/other:1'])

    expect((await gantry('rmi', 'other:1')).code).toBe(0)
    expect((await target().ctr(['images', 'ls', '-q'])).stdout).not.toContain('other')
    expect((await gantry('rmi', 'other:1')).code).toBeGreaterThan(0)
  })

  test('events are printed as they happen', async () => {
    const events = startDaemon([GANTRY, 'events', '--json'], env())
    const topics = () =>
      events
        .log()
        .split('\n')
        .filter(Boolean)
        .map((line) => (JSON.parse(line) as { topic: string }).topic)
    await until('events arrive', async () => {
      await target().ctr(['namespaces', 'label', target().namespace, `round=${Math.random()}`])
      return topics().length > 0
    })

    await shell(['--name', 'told'], 'exit 2')
    await until('the end is told', () => topics().includes('/containers/delete'))
    expect(topics().filter((topic) => topic.startsWith('/tasks/'))).toEqual([
      '/tasks/create',
      '/tasks/start',
      '/tasks/exit',
      '/tasks/delete',
    ])
    expect(await events.stop('SIGINT')).toBeTypeOf('number')
  })

  test('events are told again from one place in the log to another, in time or in number, and by topic', async () => {
    const label = (round: string) => target().ctr(['namespaces', 'label', target().namespace, `round=${round}`])
    const before = new Date().toISOString()
    for (const round of ['a', 'b', 'c']) await label(round)
    const after = new Date().toISOString()
    await label('late')
    let told: { topic: string; sequence: number }[] = []
    const ask = async (...args: string[]) => {
      const { stdout } = await gantry('events', '--json', ...args)
      told = stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line))
      return told.length
    }

    const labelled = ['--filter', 'topic=="/namespaces/update"'] // a collection may tell something in between
    const times = ['--since', before, '--until', after, ...labelled]
    await until('those between two times are told', async () => (await ask(...times)) === 3)
    const [first, second] = told
    const places = ['--since', `${first?.sequence}`, '--until', `${second?.sequence}`, ...labelled]
    await until('those between two places are told', async () => (await ask(...places)) === 2)
    expect(told).toEqual([first, second])
    const images = ['--since', '10m', '--until', after, '--filter', 'topic~=/images/']
    await until('those of a topic are told', async () => (await ask(...images)) > 0)
    expect(told.filter(({ topic }) => !topic.startsWith('/images/'))).toEqual([])
  })

  test('namespaces are listed and chosen', async () => {
    const other = target().anotherNamespace()
    expect((await gantry('--namespace', other, 'pull', '--plain-http', image)).code).toBe(0)

    expect((await gantry('namespaces')).stdout).toContain(other)
    expect((await gantry('--namespace', other, 'run', '--rm', image, 'echo', 'there')).stdout).toBe('there\n')
    expect((await gantry('--namespace', 'bad ns', 'images')).code).toBeGreaterThan(0)
  })

  test('a node that is not there is said so', async () => {
    const { code, stderr } = await run([GANTRY, '--address', join(target().dir, 'none.sock'), 'ps'])

    expect(code).toBeGreaterThan(0)
    expect(stderr).toContain('none.sock')
    expect(stderr).not.toMatch(/ at .*\.ts:\d+/)
  })
})

/** One JSON document, or one a line. */
function documents(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown)
  }
}
