import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Container } from '@gantry/client/containers'
import { Fault } from '@gantry/model/fault'
import { RESTART_LOG } from '@gantry/model/restart'
import { Command } from 'commander'
import { expect, test } from 'vitest'
import { detachedStdio, logFile, parseLogUri } from './detached-log.ts'
import { parseEnvFile, resolveEnv } from './environment.ts'
import { startFailureCode } from './failure.ts'
import { networkOf } from './network-options.ts'
import { addRunOptions, parseVolume, type RunOptions, specOf } from './options.ts'

const ID = '0123456789abcdef'.repeat(4)

function parse(...argv: string[]): { options: RunOptions; args: string[] } {
  const command = addRunOptions(new Command('run')).argument('<image>').argument('[command...]').passThroughOptions()
  command.exitOverride().configureOutput({ writeErr: () => undefined })
  command.parse(argv, { from: 'user' })
  return { options: command.opts<RunOptions>(), args: command.args }
}

test('the options of docker become those of a spec', () => {
  const argv =
    '--rm -it -e A=b -e HERE -e GONE --mount src=/a,dst=/b,readonly -v /c:/d:ro -u 1:2 -w /tmp --read-only -m 64m'
  const { options, args } = parse(
    ...argv.split(' '),
    ...['--network', 'host', '--privileged', '--entrypoint', 'sh'],
    'busybox',
    'ls',
    '-l',
  )

  expect(args).toEqual(['busybox', 'ls', '-l'])
  expect(specOf(options, { id: ID, args: args.slice(1) }, { HERE: 'here' })).toEqual({
    args: ['ls', '-l'],
    env: ['A=b', 'HERE=here'],
    mounts: [
      { type: 'bind', source: '/a', destination: '/b', options: ['rbind', 'ro'] },
      { type: 'bind', source: '/c', destination: '/d', options: ['rbind', 'ro'] },
    ],
    ...{ tty: true, cwd: '/tmp', readOnly: true, memory: 64n * 1024n ** 2n, user: '1:2', privileged: true },
    ...{ entrypoint: ['sh'], network: 'host' },
  })
})

test('options behind the image belong to the command', () => {
  const { options, args } = parse('busybox', 'sh', '--rm', '-t')

  expect(args).toEqual(['busybox', 'sh', '--rm', '-t'])
  expect([options.rm, options.tty]).toEqual([undefined, undefined])
})

test('a container is called by its short id inside, or by its name', () => {
  const { options } = parse('busybox')

  expect(specOf(options, { id: ID, args: [] }, {}).hostname).toBe('0123456789ab')
  expect(specOf(options, { id: 'web', args: [] }, {}).hostname).toBe('web')
})

test('a network that the node makes has ports and names, no other', () => {
  const argv = '--net bridge -p 8080:80 -p 127.0.0.1:53:53/udp --dns 1.1.1.1 --add-host db:10.0.0.2 x'.split(' ')

  expect(networkOf(parse(...argv).options)).toEqual({
    ...{ name: 'bridge', dns: ['1.1.1.1'], search: [], hosts: ['db:10.0.0.2'] },
    ports: [
      { hostIp: '', hostPort: 8080, containerPort: 80, protocol: 'tcp' },
      { hostIp: '127.0.0.1', hostPort: 53, containerPort: 53, protocol: 'udp' },
    ],
  })
  expect(networkOf(parse('--net', 'host', 'x').options)).toBeUndefined()
  expect(() => networkOf(parse('-p', '80:80', 'x').options)).toThrow('add --net bridge')
  expect(() => parse('-p', '80', 'x')).toThrow('write it as [address:]port:port')
})

test('--net none is the default, and other networks are refused', () => {
  expect(specOf(parse('--net', 'none', 'x').options, { id: ID, args: [] }, {}).network).toBe('none')
  expect(() => parse('--net', 'a/b', 'x')).toThrow('There is no network "a/b"')
  expect(() => parse('-m', 'lots', 'x')).toThrow('write it like 64m')
  expect(() => parse('--mount', 'src=a,dst=/b', 'x')).toThrow('src must be an absolute path')
})

test('what isolates a container is said as in docker', () => {
  const words =
    '--cpus 1.5 -c 512 --cpuset-cpus 0 -m 64m --memory-swap -1 --pids-limit 0 --ulimit nofile=10:20 --ulimit core=-1 ' +
    '--cap-drop ALL --cap-add CHOWN --security-opt no-new-privileges=false --security-opt seccomp=unconfined ' +
    '--security-opt unmask=ALL --security-opt mask=/a:/b --uidmap 0:1000:10 --tmpfs /t:size=1m,exec -h box ' +
    '--device /dev/null --device /dev/zero:/dev/x:r --sysctl net.a=1 --net ns:/n --ipc host --pid private --uts private x'

  expect(specOf(parse(...words.split(' ')).options, { id: ID, args: [] }, {})).toEqual({
    ...{ args: [], env: [], hostname: 'box', network: { path: '/n' }, ipc: 'host' },
    ...{ cpus: 1.5, cpuShares: 512, cpuset: '0', memory: 64n * 1024n ** 2n, memorySwap: -1n, pidsLimit: -1 },
    rlimits: [
      { name: 'nofile', soft: 10n, hard: 20n },
      { name: 'core', soft: -1n, hard: -1n },
    ],
    ...{ capAdd: ['CHOWN'], capDrop: ['ALL'], noNewPrivileges: false, seccomp: 'unconfined' },
    ...{ unmaskedPaths: 'all', maskedPaths: ['/a', '/b'] },
    userns: { uids: [{ container: 0, host: 1000, size: 10 }], gids: [{ container: 0, host: 1000, size: 10 }] },
    mounts: [{ type: 'tmpfs', source: 'tmpfs', destination: '/t', options: ['nosuid', 'nodev', 'size=1m', 'exec'] }],
    devices: [{ source: '/dev/null' }, { source: '/dev/zero', destination: '/dev/x', access: 'r' }],
    sysctls: { 'net.a': '1' },
  })
})

test.each([
  ['--cpus', 'many', 'give a number such as 1.5'],
  ['--pids-limit', '1.5', 'give a whole number'],
  ['--ulimit', 'nofile', 'write it as name=soft[:hard]'],
  ['--device', 'sda', 'write it as /dev/from'],
  ['--sysctl', 'net.a', 'write it as name=value'],
  ['--uidmap', '0:1', 'write it as container:host:size'],
  ['--ipc', 'hosts', 'choose host, private or ns:/path'],
  ['--tmpfs', 'run', 'dst must be an absolute path'],
  ['--tmpfs', '/run:size=1m;x', 'is no option such as size=64m'],
  ['--mount', 'src=/a,dst=/b,bind-propagation=all', 'bind-propagation must be one of'],
  ['-v', '/a:/b:rox', 'is none of ro, rw'],
])('%s %s is refused with the right form', (option, value, message) => {
  expect(() => parse(option, value, 'x')).toThrow(message)
})

test.each(['seccomp', 'seccomp=/no/such/file', 'apparmor=x', 'no-new-privileges=maybe', 'mask='])(
  '--security-opt %s is refused',
  (text) => {
    expect(() => specOf(parse('--security-opt', text, 'x').options, { id: ID, args: [] }, {})).toThrow(/^Cannot/)
  },
)

test('an env file has comments and names', () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-env-'))
  writeFileSync(join(dir, 'env'), '# comment\n\nA=1\r\n  B=2 \nHERE\n')

  const { options } = parse('--env-file', join(dir, 'env'), '-e', 'A=2', 'x')
  expect(specOf(options, { id: ID, args: [] }, { HERE: 'y' }).env).toEqual(['A=1', 'B=2 ', 'HERE=y', 'A=2'])
  expect(parseEnvFile('')).toEqual([])
  expect(resolveEnv(['A='], {})).toEqual(['A='])
  rmSync(dir, { recursive: true })
})

test.each(['a:/b', '/a', '/a:/b:ro:x', '/a:b'])('the volume %s is refused', (text) => {
  expect(() => parseVolume(text)).toThrow('/source:/destination')
})

test('where the output of a detached container goes is in its record', () => {
  const madeWith = (logUri: string) => ({ id: 'box', labels: { [RESTART_LOG]: logUri } }) as unknown as Container

  expect(detachedStdio(madeWith(''))).toEqual({})
  expect(detachedStdio(madeWith('file:///a'))).toEqual({ logUri: 'file:///a' })
  expect(logFile(madeWith('file:///a%20b'))).toBe('/a b')
  expect(() => logFile(madeWith(''))).toThrow('make it with --log-uri')
  expect(() => logFile(madeWith('binary:///logger'))).toThrow('it goes to binary:///logger')
  expect(parseLogUri('binary:///logger?tag=x')).toBe('binary:///logger?tag=x')
  for (const text of ['', 'a.log', 'file:///', 'file://host/a', 'ftp:///a'])
    expect(() => parseLogUri(text)).toThrow('write it as')
})

test.each([
  ['exec: "x": executable file not found in $PATH: unknown', 127],
  ['executable file `x` not found in $PATH: No such file or directory', 127],
  ['exec: "/x": stat /x: no such file or directory', 127],
  ['exec: "/etc": permission denied', 126],
  ['exec: "/etc": is a directory', 126],
  ['error mounting "/none": no such file or directory', 125],
  ['no space left on device', 125],
])('%s ends with %i', (text, code) => {
  expect(startFailureCode(new Fault('unknown', text), 125)).toBe(code)
})
