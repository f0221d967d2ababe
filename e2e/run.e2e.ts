import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { onEveryTarget } from './harness/target.ts'

onEveryTarget((target) => {
  let image = ''
  beforeAll(async () => {
    image = await target().pull()
  })
  /** `ctr run --rm` with these flags, the image, an id and this command */
  const runRm = (flags: readonly string[], ...command: string[]) =>
    target().ctr(['run', '--rm', ...flags, image, 'c1', ...command])
  const shell = (flags: readonly string[], script: string) => runRm(flags, 'sh', '-c', script)

  test('a container says hello', async () => {
    expect(await runRm([], 'echo', 'hello')).toEqual({ code: 0, stdout: 'hello\n', stderr: '' })
  })

  test('output and errors come on their own streams', async () => {
    expect(await shell([], 'echo out; echo err >&2')).toEqual({ code: 0, stdout: 'out\n', stderr: 'err\n' })
  })

  test('all of a long output arrives', async () => {
    const { code, stdout } = await shell([], 'seq 1 100000')

    expect(code).toBe(0)
    expect(stdout.split('\n')).toHaveLength(100_001)
    expect(stdout.endsWith('\n99999\n100000\n')).toBe(true)
  })

  test.each([1, 9, 137, 255])('the exit code %i is passed on', async (code) => {
    expect(await shell([], `exit ${code}`)).toEqual({ code, stdout: '', stderr: '' })
  })

  test('a process that a signal ends has 128 and its number as exit code', async () => {
    expect((await shell([], 'sh -c "kill -9 \\$\\$"; exit $?')).code).toBe(137)
  })

  test('both layers make the root file system', async () => {
    const { stdout } = await shell([], 'cat /etc/motd; ls -a /etc; stat -c "%u:%g %a" /home/demo/own /tmp')

    expect(stdout).toBe('from the second layer\n.\n..\ngroup\nmotd\npasswd\n1000:1000 600\n0:0 1777\n')
  })

  test('a program on a terminal sees one, with its size', async () => {
    const { code, stdout } = await target().ctrOnTerminal([
      'run',
      '--rm',
      '-t',
      image,
      'c2',
      'sh',
      '-c',
      'tty; sleep 0.3; stty size',
    ])

    expect({ code, stdout }).toEqual({ code: 0, stdout: '/dev/pts/0\n33 101\n' })
  })

  test('what is typed on a terminal arrives, and its exit code comes back', async () => {
    const typed = { stdin: 'echo typed $((6*7))\nexit 5\n', hold: (stdout: string) => stdout.includes('typed 42') }
    const { code, stdout } = await target().ctrOnTerminal(['run', '--rm', '-t', image, 'c2', 'sh'], typed)

    expect(code).toBe(5)
    expect(stdout).toContain('typed 42')
  })

  test('standard input reaches the container, and so does its end', async () => {
    expect(
      await target().ctr(['run', '--rm', image, 'c3', 'cat'], { stdin: 'abc\n', hold: (stdout) => stdout === 'abc\n' }),
    ).toEqual({
      code: 0,
      stdout: 'abc\n',
      stderr: '',
    })
  })

  test('a megabyte goes in and comes out again', async () => {
    const text = 'sixteen letters\n'.repeat(65_536)
    const { code, stdout } = await target().ctr(['run', '--rm', image, 'c3', 'cat'], {
      stdin: text,
      hold: (stdout) => stdout === text,
    })

    expect(code).toBe(0)
    expect(stdout === text).toBe(true)
  })

  test('--env and --cwd', async () => {
    expect(
      await shell(['--env', 'A=b', '--env', 'GREETING=moin', '--cwd', '/home/demo'], 'echo $A $GREETING; pwd'),
    ).toEqual({
      code: 0,
      stdout: 'b moin\n/home/demo\n',
      stderr: '',
    })
  })

  test('--mount binds a folder of the host, read-only when told so', async () => {
    const folder = mkdtempSync(join(target().dir, 'shared-'))
    writeFileSync(join(folder, 'file'), 'from the host\n')

    const mount = ['--mount', `type=bind,src=${folder},dst=/shared,options=rbind:ro`]
    expect(await shell(mount, 'cat /shared/file; touch /shared/other')).toEqual({
      code: 1,
      stdout: 'from the host\n',
      stderr: 'touch: /shared/other: Read-only file system\n',
    })
    rmSync(folder, { recursive: true })
  })

  test('--read-only', async () => {
    expect(await runRm(['--read-only'], 'touch', '/x')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'touch: /x: Read-only file system\n',
    })
  })

  test('--memory-limit is the limit of the cgroup', async () => {
    const limit = 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true'
    const cgroups = ['--mount', 'type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro:nosuid:noexec:nodev']

    expect(await shell(['--memory-limit', '33554432', ...cgroups], limit)).toEqual({
      code: 0,
      stdout: '33554432\n',
      stderr: '',
    })
  })

  test('--net-host shares the network, without it there is only a loopback', async () => {
    expect((await shell(['--net-host'], 'ls /sys/class/net')).stdout.split('\n').length).toBeGreaterThan(2)
    expect((await shell([], 'ls /sys/class/net')).stdout).toBe('lo\n')
  })

  test('--privileged gives all capabilities, without it there are fourteen', async () => {
    const all = await shell(['--privileged'], 'grep CapEff /proc/self/status')
    const few = await shell([], 'grep CapEff /proc/self/status')

    expect(few.stdout).toBe('CapEff:\t00000000a80425fb\n')
    expect(BigInt(`0x${all.stdout.split('\t')[1]?.trim()}`)).toBeGreaterThan(0xa80425fbn)
  })

  test('processes, mounts, network and host name are its own', async () => {
    const { stdout } = await shell([], 'echo $$; grep -c " / / " /proc/self/mountinfo; readlink /proc/1/ns/*')
    const [pid, roots, ...namespaces] = stdout.trim().split('\n')
    const ours = readdirSync('/proc/self/ns').map((name) => readlinkSync(`/proc/self/ns/${name}`))

    expect([pid, roots]).toEqual(['1', '1'])
    for (const kind of ['ipc', 'mnt', 'net', 'pid', 'uts'])
      expect(ours).not.toContain(namespaces.find((name) => name.startsWith(`${kind}:`)))
  })

  test('a program that does not exist is named, and nothing is left', async () => {
    const { code, stderr } = await runRm([], 'nosuchprogram')

    expect(code).toBe(1)
    expect(stderr).toContain('exec: "nosuchprogram": executable file not found in $PATH')
  })

  test('a container that is there is not made again', async () => {
    await target().ctr(['run', '-d', image, 'c1', 'sleep', '100'])

    expect(await runRm([], 'true')).toEqual({ code: 1, stdout: '', stderr: 'ctr: snapshot "c1": already exists\n' })
    await target().ctr(['tasks', 'rm', '-f', 'c1'])
    await target().ctr(['containers', 'rm', 'c1'])
  })

  test('two containers with the same id run in two namespaces', async () => {
    const other = target().anotherNamespace()
    await target().ctr(['-n', other, 'images', 'pull', '--plain-http', image])

    const here = target().ctr(['run', '--rm', image, 'same', 'sh', '-c', 'sleep 1; echo here'])
    const there = target().ctr(['-n', other, 'run', '--rm', image, 'same', 'sh', '-c', 'sleep 1; exit 3'])

    expect(await here).toEqual({ code: 0, stdout: 'here\n', stderr: '' })
    expect(await there).toEqual({ code: 3, stdout: '', stderr: '' })
  })

  test('ten containers run at once', async () => {
    const numbers = Array.from({ length: 10 }, (_, index) => index)
    const outcomes = await Promise.all(
      numbers.map((n) =>
        target().ctr(['run', '--rm', image, `many-${n}`, 'sh', '-c', `echo ${n}; exit ${n}`], { timeoutMs: 60_000 }),
      ),
    )

    expect(outcomes).toEqual(numbers.map((n) => ({ code: n, stdout: `${n}\n`, stderr: '' })))
  })
})
