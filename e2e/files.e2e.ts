/** The files of containers: copied, listed, made an image of, pruned. */
import { chownSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, expect, inject, test } from 'vitest'
import { run, runOnTerminal } from './harness/command.ts'
import { until } from './harness/daemon.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { onGantry } from './harness/target.ts'
import { rows } from './harness/text.ts'

onGantry((target) => {
  const image = inject('image')
  const env = () => gantryEnv(target().address, target().namespace)
  const gantry = (...args: string[]) => run([GANTRY, ...args], { env: env() })
  const json = async (...args: string[]) => JSON.parse((await gantry(...args, '--json')).stdout)
  const ended = (name: string, script: string) => gantry('run', '--name', name, image, 'sh', '-c', script)

  beforeAll(async () => {
    await target().pull()
  })
  afterEach(() => target().sweep())

  test.each(['runs', 'has ended'])('files are copied into and out of a container that %s', async (state) => {
    const work = mkdtempSync(join(target().dir, 'work-'))
    const script =
      'mkdir out; echo x > out/file; ln -s /etc/passwd out/link; ln -s .. out/up; mkfifo out/fifo; sleep 1000'
    await gantry('run', '-d', '--name', 'box', '-m', '64m', image, 'sh', '-c', script)
    await until('it has made all', async () => (await gantry('exec', 'box', 'test', '-p', 'out/fifo')).code === 0)
    if (state === 'has ended') await gantry('stop', '-t', '0', 'box')
    const cp = (...args: string[]) =>
      run(['sh', '-c', 'cd "$0" && exec "$@"', work, GANTRY, 'cp', ...args], { env: env() })
    const done = { code: 0, stdout: '', stderr: '' }
    mkdirSync(join(work, 'in'))
    writeFileSync(join(work, 'in/own'), 'own')
    chownSync(join(work, 'in/own'), 7, 8)

    expect(await cp('in', 'box:/')).toEqual(done)
    expect(await cp('-a', 'in/own', 'box:/in/archived')).toEqual(done)
    expect(await cp('in/.', 'box:out/up/in/../new')).toEqual(done)
    expect(await cp('in/own', 'box:/out/link')).toEqual(done) // its passwd, not ours
    expect(await cp('box:/out', '.')).toEqual({ ...done, stderr: 'gantry: out/fifo is left out: it is a FIFO\n' })
    expect(await cp('box:/etc/passwd', 'passwd')).toEqual(done)
    expect(await cp('-L', 'box:/out/link', 'followed')).toEqual(done)
    const tar = await run(['sh', '-c', 'cd "$0" && "$1" cp box:/out - | tar -tv', work, GANTRY], { env: env() })
    const piped = 'cd "$0" && tar -c --owner=9 --group=9 in | "$1" cp - box:/etc'
    expect(await run(['sh', '-c', piped, work, GANTRY], { env: env() })).toEqual(done)

    for (const file of ['passwd', 'followed']) expect(readFileSync(join(work, file), 'utf8')).toBe('own')
    expect(readlinkSync(join(work, 'out/up'))).toBe('..')
    expect(readFileSync(join(work, 'out/file'), 'utf8')).toBe('x\n')
    for (const line of [/^d.* out\/$/m, /^p.* out\/fifo$/m, /^l.* out\/link -> \/etc\/passwd$/m])
      expect(tar.stdout).toMatch(line)
    await gantry('start', 'box')
    await cp('passwd', 'box:/etc/passwd')
    const owners = 'stat -c "%u:%g %n" /in/own /in/archived /new/own /etc/in/own'
    expect((await gantry('exec', 'box', 'sh', '-c', owners)).stdout).toBe(
      '0:0 /in/own\n7:8 /in/archived\n0:0 /new/own\n9:9 /etc/in/own\n',
    )
    await gantry('rm', '-f', 'box')
  })

  test('what is mounted in a container is written over, what is not to be written is refused', async () => {
    const [file, other] = ['file', 'other'].map((name) => join(target().dir, name))
    writeFileSync(`${file}`, 'before')
    writeFileSync(`${other}`, 'after')
    const mount = `type=bind,src=${file},dst=/etc/motd`
    await gantry(
      'run',
      '-d',
      '--name',
      'box',
      '--read-only',
      '--tmpfs',
      '/tmp',
      '--mount',
      mount,
      image,
      'sleep',
      '1000',
    )
    const cp = (...args: string[]) => gantry('cp', ...args)

    expect(await cp(`${other}`, 'box:/etc/motd')).toMatchObject({ code: 0, stderr: '' })
    expect((await gantry('exec', 'box', 'cat', '/etc/motd')).stdout).toBe('after')
    expect(readFileSync(`${file}`, 'utf8')).toBe('after')
    expect(await cp(`${other}`, 'box:/tmp')).toMatchObject({ code: 0 })
    expect((await gantry('exec', 'box', 'cat', '/tmp/other')).stdout).toBe('after')
    const refused = async (words: string, ...args: string[]) =>
      expect(await cp(...args)).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining(words) })
    await refused('gantry: cannot copy: read-only file system\n', `${other}`, 'box:/new')
    await refused('there is no such folder', `${other}`, 'box:/none/')
    await refused('"/none": there is no such file', 'box:/none', '-')
    await refused('it is no folder', 'box:/etc/passwd/.', '-')
    await refused('one side has to be a container', `${other}`, '-')
    await refused('one side has to be a container', 'box:/etc', 'box:/tmp')
    await refused('none of that name', 'nobody:/etc', '-')
    expect((await run(['sh', '-c', 'echo nonsense | "$0" cp - box:/tmp', GANTRY], { env: env() })).code).toBe(1)
    await gantry('rm', '-f', 'box')
  })

  test('ids of a container that has its own are its own in what is copied', async () => {
    const own = join(target().dir, 'own')
    writeFileSync(own, 'own')
    await gantry('run', '-d', '--name', 'box', '--uidmap', '0:100000:65536', image, 'sleep', '1000')

    expect(await gantry('cp', own, 'box:/')).toEqual({ code: 0, stdout: '', stderr: '' })
    expect((await gantry('exec', 'box', 'stat', '-c', '%u', '/own')).stdout).toBe('0\n')
    const tar = await run(['sh', '-c', '"$0" cp box:/own - | tar -tv --numeric-owner', GANTRY], { env: env() })
    expect(tar.stdout).toMatch(/ 0\/0 /)
    expect((await gantry('commit', 'box', 'mapped:1')).stderr).toContain('are mapped')
    await gantry('rm', '-f', 'box')
  })

  test('diff lists what was added, changed and deleted, whatever kind it is', async () => {
    const script = `rm etc/motd; echo x >> etc/passwd; mkdir -p a/b; ln -s /etc link; rm -r home; mkdir home; echo x > home/new
      rm -r var; ln -s a var; printf x > "$(printf 'n\\033')"`
    await ended('box', script)

    const changes =
      'A /a,A /a/b,C /etc,D /etc/motd,C /etc/passwd,C /home,D /home/demo,A /home/new,A /link,A /n\\x1b,C /var'
    expect(await gantry('diff', 'box')).toEqual({ code: 0, stdout: changes.replace(/,|$/g, '\n'), stderr: '' })
    expect((await json('diff', 'box')).at(-1)).toEqual({ kind: 'changed', path: '/var' })
    await gantry('create', '--name', 'none', image, 'true')
    expect(await gantry('diff', 'none')).toEqual({ code: 0, stdout: '', stderr: '' })
    await gantry('rm', 'box', 'none')
  })

  test('what a container wrote becomes an image, again and again, and nothing else stays of it', async () => {
    const counter = 'while :; do echo $((++i)) > /count; sleep 0.01; done'
    await gantry('run', '-d', '--name', 'box', image, 'sh', '-c', `rm etc/motd; echo one > /new; ${counter}`)
    await until('it writes', async () => (await gantry('exec', 'box', 'test', '-s', '/count')).code === 0)
    const before = (await target().ctr(['snapshots', 'ls'])).stdout

    const changes = ['-c', 'CMD ["cat", "/new"]', '-c', 'ENV ADDED="a b"', '-m', 'what it is', '-a', 'who']
    const made = await gantry('commit', ...changes, 'box', 'made:1')

    expect(made).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^docker\.io\/library\/made:1 sha256:\w{64}\n$/),
      stderr: '',
    })
    expect((await gantry('exec', 'box', 'sh', '-c', 'echo two > /new')).code).toBe(0) // it goes on
    expect((await gantry('run', '--rm', 'made:1')).stdout).toBe('one\n')
    expect((await gantry('run', '--rm', 'made:1', 'sh', '-c', 'echo $ADDED $GREETING; ls etc/motd')).stdout).toBe(
      'a b hello\n',
    )
    const [step, ...older] = await json('history', 'made:1')
    expect(step).toMatchObject({ createdBy: 'gantry commit', comment: 'what it is', size: expect.any(Number) })
    expect(older).toEqual(await json('history', image))

    await gantry('tag', 'made:1', 'kept:1')
    await gantry('run', '--name', 'second', 'made:1', 'sh', '-c', 'echo two > /new')
    expect((await gantry('commit', 'second', 'made:1')).code).toBe(0) // its image has another name's layers below
    expect((await gantry('commit', 'second', 'made:1')).code).toBe(0)
    expect((await gantry('run', '--rm', 'made:1')).stdout).toBe('two\n')
    expect(await json('history', 'made:1')).toHaveLength(older.length + 2)

    expect((await target().ctr(['leases', 'ls', '-q'])).stdout).toBe('')
    await gantry('rm', '-f', 'box', 'second')
    await gantry('rmi', 'made:1', 'kept:1')
    await gantry('gc')
    const left = rows((await target().ctr(['snapshots', 'ls'])).stdout).map(([key]) => key)
    expect(rows(before).flatMap(([key]) => (key === 'box' ? [] : [key]))).toEqual(left)
  })

  test('what cannot be committed is refused', async () => {
    await gantry('create', '--name', 'box', image, 'true')
    const refused = async (words: string, ...args: string[]) =>
      expect(await gantry('commit', ...args)).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringContaining(words),
      })

    await refused('give CMD, ENTRYPOINT', '-c', 'RUN x', 'box', 'made:1')
    await refused('none of that name', 'nobody', 'made:1')
    await gantry('tag', image, 'gone:1')
    await gantry('create', '--name', 'orphan', 'gone:1', 'true')
    await gantry('rmi', 'gone:1')
    await refused('"docker.io/library/gone:1": not found', 'orphan', 'made:1')
    await gantry('rm', 'box', 'orphan')
  })

  test('prune removes what has ended and what nobody uses, and says what that was', async () => {
    await gantry('run', '-d', '--name', 'runs', image, 'sleep', '1000')
    await gantry('create', '--name', 'fresh', image, 'true')
    await ended('ended', 'dd if=/dev/zero of=/zeros bs=64k count=16')
    await gantry('run', '-l', 'keep=1', '--name', 'labelled', image, 'true')
    await gantry('commit', '-c', 'LABEL keep=yes', 'labelled', 'labelled:1')
    await gantry('tag', image, 'unused:1')

    expect(await gantry('container', 'prune')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('use --force'),
    })
    const removed = (stdout: string) => stdout.includes('removed')
    const asked = await runOnTerminal([GANTRY, 'container', 'prune'], { env: env(), stdin: '\n', hold: removed })
    expect(asked).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/Go on\? \[y\/N\] gantry: nothing was removed\n$/),
    })
    const containers = await json('container', 'prune', '-f', '--filter', 'label!=keep')
    expect(containers).toEqual({ containers: ['ended'], images: [], reclaimedBytes: expect.any(Number) })
    expect(containers.reclaimedBytes).toBeGreaterThanOrEqual(1024 ** 2)
    expect((await gantry('image', 'prune', '-f')).stdout).toMatch(/^Total reclaimed space: \S+B\n$/)
    const images = (await gantry('image', 'prune', '-af', '--filter', 'label!=keep=yes')).stdout
    expect(images).toMatch(/^Deleted images:\ndocker.io\/library\/unused:1\n\nTotal reclaimed space: \S+B\n$/)
    const rest = await gantry('system', 'prune', '-af')
    expect(rest.stdout).toMatch(/^Deleted containers:\nlabelled\n\nDeleted images:\n.*\/labelled:1\n\nTotal/)
    expect((await gantry('ps', '-aq')).stdout.split('\n').toSorted()).toEqual(['', 'fresh', 'runs'])
    expect((await gantry('images', '-q')).stdout).toBe(`${image}\n`)
    await gantry('rm', '-f', 'runs', 'fresh')
  })
})
