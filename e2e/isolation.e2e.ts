/** What isolates a container, seen from inside it; the options are Docker's. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createClient } from '@gantry/client/client'
import { afterEach, beforeAll, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { onGantry } from './harness/target.ts'

onGantry((target) => {
  const image = inject('image')
  const gantry = (...args: string[]) => run([GANTRY, ...args], { env: gantryEnv(target().address, target().namespace) })
  /** Runs a script in a container; its output by line, with what it says on standard error behind it. */
  const inside = async (flags: string, script: string) => {
    const words = flags.split(' ').filter((word) => word !== '')
    const { stdout, stderr } = await gantry('run', '--rm', ...words, image, 'sh', '-c', script)
    return `${stdout}${stderr}`.trimEnd().split('\n')
  }
  const limit = (v1: string, v2: string) =>
    `cat /sys/fs/cgroup/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2.split(' ')[0]}`

  beforeAll(async () => {
    await target().pull()
  })
  afterEach(() => target().sweep())

  test('CPU time, weight and place, memory and processes are limited', async () => {
    const flags = '--cpus 0.5 --cpu-shares 512 --cpuset-cpus 1 -m 64m --memory-swap 64m --pids-limit 5'
    const lines = await inside(
      flags,
      `${limit('cpu/cpu.cfs_quota_us', 'cpu.max')}; ${limit('memory/memory.limit_in_bytes', 'memory.max')}
       ${limit('pids/pids.max', 'pids.max')}; grep Cpus_allowed_list /proc/self/status
       dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo dd $?
       for i in 1 2 3 4 5 6 7 8; do sleep 60 & done`,
    )

    expect(lines).toEqual([
      expect.stringMatching(/^50000/),
      '67108864',
      '5',
      'Cpus_allowed_list:\t1',
      'dd 137',
      expect.stringContaining("can't fork"),
    ])
  })

  test('capabilities are dropped, added and gone for another user', async () => {
    const mask = 'grep CapEff /proc/self/status | cut -f2'

    expect(await inside('--cap-drop ALL --cap-add NET_BIND_SERVICE --cap-add chown', mask)).toEqual([
      '0000000000000401',
    ])
    expect(await inside('--cap-drop CHOWN', 'chown 1 /tmp; echo $?')).toContain('1')
    expect(await inside('-u demo', `id; ${mask}`)).toEqual([
      'uid=1000(demo) gid=1000(demo) groups=1000(demo)',
      '0000000000000000',
    ])
  })

  test('a filter of system calls is there unless unconfined, or is the one given', async () => {
    const script = 'grep Seccomp: /proc/self/status | cut -f2; unshare -U true; echo $?; mkdir /tmp/x; echo $?'
    const profile = join(target().dir, 'seccomp.json')
    const refuse = { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' }
    writeFileSync(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [refuse] }))

    const usual = await inside('', script)
    expect([usual[0], ...usual.slice(1).filter((line) => /^\d+$/.test(line))]).toEqual(['2', '1', '0'])
    expect(await inside('--security-opt seccomp=unconfined', script)).toEqual(['0', '0', '0'])
    const given = await inside(`--security-opt seccomp=${profile}`, script)
    expect([given[0], ...given.slice(1).filter((line) => /^\d+$/.test(line))]).toEqual(['2', '0', '1'])
    expect(await inside(`--security-opt seccomp=${target().dir}/none`, 'true')).toEqual([
      expect.stringContaining('annot read the seccomp profile'),
    ])
  })

  test('set-user-id programs give nothing unless allowed; hidden and read-only paths', async () => {
    const script =
      'grep NoNewPrivs /proc/self/status | cut -f2; cat /etc/motd; echo x > /proc/sys/kernel/hostname; echo $?'

    expect(await inside('--security-opt mask=/etc/motd', script)).toEqual([
      '1',
      '1',
      expect.stringContaining('Read-only file system'),
    ])
    const flags = '--security-opt no-new-privileges=false --security-opt systempaths=unconfined'
    expect(await inside(flags, script)).toEqual(['0', 'from the second layer', '0'])
  })

  test('the root is read-only, a tmpfs and mounts are not', async () => {
    const folder = join(target().dir, 'shared')
    mkdirSync(join(folder, 'below'), { recursive: true })
    const flags = `--read-only --tmpfs /new:size=1m,mode=700 -v ${folder}:/a --mount src=${folder},dst=/b,readonly`
    const script = `touch /x; touch /new/x /a/x && ls /b; touch /b/y; stat -c %a /new; df -k /new | tail -1 | awk '{print $2}'`

    expect(await inside(flags, script)).toEqual([
      'below',
      'x',
      '700',
      '1024',
      'touch: /x: Read-only file system',
      'touch: /b/y: Read-only file system',
    ])
  })

  test('what is mounted on the host later reaches a mount that asks for it', async () => {
    const folder = join(target().dir, 'spreading')
    mkdirSync(join(folder, 'below'), { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', folder])
    try {
      execFileSync('mount', ['--make-shared', folder])
      mkdirSync(join(folder, 'below'))
      const ask = async (options: string) => {
        const name = options === '' ? 'private' : 'slave'
        await gantry('run', '-d', '--name', name, '--mount', `src=${folder},dst=/a${options}`, image, 'sleep', '1000')
        execFileSync('mount', ['-t', 'tmpfs', 'later', join(folder, 'below')])
        const { stdout } = await gantry('exec', name, 'grep', '-c', '/a/below', '/proc/self/mounts')
        execFileSync('umount', [join(folder, 'below')])
        await gantry('rm', '-f', name)
        return stdout.trim()
      }

      expect(await ask('')).toBe('0')
      expect(await ask(',bind-propagation=rslave')).toBe('1')
    } finally {
      execFileSync('umount', ['-R', folder])
    }
  })

  test('its name, settings, limits, devices and environment', async () => {
    const file = join(target().dir, 'env')
    writeFileSync(file, '# names\nFROM_FILE=1\n')
    const flags =
      `-h inner --sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=4096 --ulimit nofile=100:200 --ulimit core=-1 ` +
      `--device /dev/kmsg:/dev/made:rw --env-file ${file} -e GREETING=bye -w /home/demo -u demo:root --label a=b`
    const script = `hostname; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; ulimit -n; ulimit -H -n; ulimit -c
      stat -c %t:%T /dev/made; echo $FROM_FILE $GREETING; pwd; id -un; id -gn`

    expect(await inside(flags, script)).toEqual([
      ...['inner', '1', '4096', '100', '200', 'unlimited', '1:b', '1 bye', '/home/demo', 'demo', 'root'],
    ])
  })

  test('a device can be used as far as it is given', async () => {
    const script = ': > /dev/kmsg && echo written'

    expect(await inside('--device /dev/kmsg', script)).toEqual(['written'])
    expect(await inside('--device /dev/kmsg:r', script)).toEqual([
      expect.stringMatching(/Operation not permitted|Permission denied/),
    ])
  })

  test('namespaces are its own, the host’s, or given ones', async () => {
    const script = 'for n in net ipc pid uts; do readlink /proc/self/ns/$n; done'
    const ours = execFileSync('sh', ['-c', script], { encoding: 'utf8' }).trim().split('\n')
    const net = join(target().dir, 'netns')
    writeFileSync(net, '')
    execFileSync('unshare', [`--net=${net}`, 'ip', 'link', 'add', 'mark', 'type', 'bridge'])
    try {
      const own = await inside('', script)
      expect(own.filter((name) => ours.includes(name))).toEqual([])
      expect(await inside('--net host --ipc host --pid host --uts host', script)).toEqual(ours)
      expect(await inside(`--net ns:${net}`, 'ip -o link | cut -d: -f2')).toContain(' mark')
      expect(
        await inside('--net none', 'ip -o link | cut -d: -f2; ping -c 1 -W 5 127.0.0.1 >/dev/null; echo $?'),
      ).toEqual([' lo', '0'])
    } finally {
      execFileSync('umount', [net])
    }
  })

  test('hooks of a container made by the client library run at its moments', async () => {
    const folder = join(target().dir, 'hooks')
    mkdirSync(folder)
    const hook = (name: string) => [{ path: '/bin/sh', args: ['sh', '-c', `cat > ${folder}/${name}`] }]
    const hooks = { createRuntime: hook('created'), poststart: hook('started'), poststop: hook('stopped') }
    const signal = AbortSignal.timeout(20_000)
    await using client = createClient({ address: target().address, namespace: target().namespace })

    const container = await client.containers.create({ id: 'hooked', image, spec: { args: ['true'], hooks } }, signal)
    const task = await client.tasks.create(container, { stdio: {} }, signal)
    const exited = task.wait(signal)
    await task.start(signal)
    await exited
    await task.delete(signal)
    await client.containers.delete('hooked', {}, signal)

    expect(readdirSync(folder)).toEqual(['created', 'started', 'stopped'])
    expect(JSON.parse(readFileSync(join(folder, 'stopped'), 'utf8'))).toMatchObject({ id: 'hooked', status: 'stopped' })
  })

  test('root of the container is nobody on the host, and its files are those of the image', async () => {
    chmodSync(target().dir, 0o711)
    const script = `id -u; tr -s ' ' < /proc/self/uid_map; touch /mine; stat -c %u /mine /bin/busybox /home/demo; echo x > /proc/sys/kernel/hostname || echo guarded`
    const flags = '--uidmap 0:200000:65536 --name mapped'

    expect(await inside(flags, script)).toEqual([
      ...['0', ' 0 200000 65536', '0', '0', '1000', 'guarded'],
      expect.stringContaining('Read-only file system'),
    ])
    await gantry('run', '-d', ...flags.split(' '), image, 'sleep', '1000')
    const { stdout } = await gantry('ps', '--json')
    const pid = (JSON.parse(stdout) as { pid: number }[])[0]?.pid
    expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^Uid:\t200000\t200000/m)
    expect((await gantry('exec', '-u', 'demo', 'mapped', 'id', '-u')).stdout).toBe('1000\n')
  })

  test.each([
    ['--cpus 1000', 'this host has between'],
    ['--cap-add EVERYTHING', 'here is no capability "EVERYTHING"'],
    ['--sysctl kernel.core_pattern=x', 'a setting of the whole host'],
    ['--device /dev/none', 'this host has no such device'],
    ['--security-opt label=disable', 'seccomp=unconfined, no-new-privileges'],
    ['--memory-swap 1g', 'limit memory as well'],
    ['--uts host -h x', 'annot set a hostname'],
  ])('%s is refused before anything is made', async (flags, message) => {
    expect(await inside(flags, 'true')).toEqual([expect.stringContaining(message)])
  })
})
