/** Networks of containers by CNI plugins. The node lives in a network namespace of its own: the host's is left alone. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest'
import { type Outcome, run } from './harness/command.ts'
import { startDaemon, until } from './harness/daemon.ts'
import { GANTRY, gantryEnv, startGantry } from './harness/gantry.ts'
import { signal } from './harness/kill.ts'
import { lastingTraces, removeNamespaceCgroups } from './harness/leaks.ts'
import type { Running } from './harness/running.ts'

const dir = mkdtempSync(join(tmpdir(), 'gn-'))
const namespace = `e2e${dir.slice(-6)}`
const netns = join(dir, 'netns')
const image = 'docker.io/library/busybox:net'
const state = join(dir, 'state')
let node: Running

const gantry = (...args: string[]) => run([GANTRY, ...args], { env: gantryEnv(node.address, namespace) })
const there = (...args: string[]) => run(['nsenter', `--net=${netns}`, ...args])
const config = join(dir, 'gantry.toml')
const start = () => startGantry(join(dir, 'root'), state, ['--config', config], ['nsenter', `--net=${netns}`])

/** What is there of the networks of containers: folders, addresses, rules of the firewall. */
async function remains(): Promise<string[]> {
  const entries = (path: string): string[] => {
    try {
      return readdirSync(join(state, path)).map((name) => `${path}/${name}`)
    } catch {
      return []
    }
  }
  const rules = [
    ...(await there('iptables-save')).stdout.split('\n'),
    ...(await there('ip6tables-save')).stdout.split('\n'),
  ].filter((line) => line.includes(namespace) || /-[ds] (10\.63\.0\.\d+\/32|fd63::\S+\/128)/.test(line))
  return [
    ...entries(`networks/${namespace}`),
    ...entries('leases/bridge').filter((path) => /\/(10\.|fd63:)/.test(path)),
    ...rules,
  ]
}

const freed = async () => {
  await until('the network is free', async () => (await remains()).length === 0).catch(() => undefined)
  expect(await remains()).toEqual([])
}
const addressOf = async (name: string) =>
  (await gantry('exec', name, 'ip', '-4', 'addr', 'show', 'eth0')).stdout.match(/inet (\S+)\//)?.[1] ?? 'none'

beforeAll(async () => {
  chmodSync(dir, 0o711) // root of a container with mapped ids is somebody else
  mkdirSync(state)
  writeFileSync(netns, '')
  writeFileSync(config, '[tasks]\nbridge_subnet6 = "fd63::/64"\n')
  execFileSync('unshare', [`--net=${netns}`, 'ip', 'link', 'set', 'lo', 'up'])
  const archive = join(dir, 'image.tar')
  execFileSync('skopeo', [
    '--insecure-policy',
    'copy',
    '-q',
    '--src-tls-verify=false',
    `docker://${inject('image')}`,
    `docker-archive:${archive}:${image}`,
  ])
  node = await start()
  const loaded = await gantry('load', '-i', archive)
  expect(loaded).toMatchObject({ code: 0, stderr: '' })
})
afterEach(async () => {
  const { stdout } = await gantry('ps', '-aq')
  const names = stdout.split('\n').filter(Boolean)
  if (names.length > 0) await gantry('rm', '-f', ...names)
  await freed()
})
afterAll(async () => {
  await node?.[Symbol.asyncDispose]()
  execFileSync('umount', [netns])
  removeNamespaceCgroups([namespace])
  expect(await lastingTraces({ dir, namespaces: [namespace] })).toEqual([])
  rmSync(dir, { recursive: true, force: true })
})

test('a container has an address, names and ports, and is reached by them', async () => {
  const serve = ['httpd', '-f', '-p', '80', '-h', '/etc']
  const flags = ['--net', 'bridge', '-h', 'inner', '--dns', '192.0.2.1', '--add-host', 'db:192.0.2.2', '-p', '8080:80']
  expect(await gantry('run', '-d', '--name', 'web', ...flags, image, ...serve)).toMatchObject({ code: 0, stderr: '' })
  await until('it serves', async () => (await gantry('exec', 'web', 'netstat', '-ltn')).stdout.includes(':80'))
  const fetch = (url: string) => ['busybox', 'wget', '-qO-', url]
  const motd = { code: 0, stdout: expect.stringContaining('from the second layer') }
  expect(await there(...fetch('http://[fd63::1]:8080/motd'))).toMatchObject(motd) // at once, though the bridge is new
  const address = await addressOf('web')
  expect(address).toMatch(/^10\.63\.0\.\d+$/)

  const { stdout } = await gantry('exec', 'web', 'sh', '-c', 'cat /etc/resolv.conf /etc/hosts; ip route | head -1')
  expect(stdout.split('\n')).toEqual([
    ...['nameserver 192.0.2.1', '127.0.0.1\tlocalhost', '::1\tlocalhost ip6-localhost ip6-loopback'],
    ...[
      `${address}\tinner`,
      expect.stringMatching(/^fd63::\S+\tinner$/),
      '192.0.2.2\tdb',
      expect.stringContaining('default via 10.63.0.1'),
      '',
    ],
  ])
  const get = (host: string) => ['sh', '-c', `printf 'GET /motd HTTP/1.0\\r\\n\\r\\n' | busybox nc ${host}`]
  expect(await there(...get('10.63.0.1 8080'))).toMatchObject(motd)
  expect(await there(...get('127.0.0.1 8080'))).toMatchObject(motd)
  expect(await gantry('run', '--rm', '--net', 'bridge', image, ...get(`${address} 80`))).toMatchObject(motd)
  const address6 = /inet6 (fd63:\S+)\//.exec(
    (await gantry('exec', 'web', 'ip', '-6', 'addr', 'show', 'eth0')).stdout,
  )?.[1]
  expect(await gantry('run', '--rm', '--net', 'bridge', image, ...fetch(`http://[${address6}]/motd`))).toMatchObject(
    motd,
  )
  const mapped = ['--net', 'bridge', '--uidmap', '0:200000:65536']
  expect(await gantry('run', '--rm', ...mapped, image, ...get(`${address} 80`))).toMatchObject(motd)
  expect((await remains()).length).toBeGreaterThan(2) // so that the look for what is left can find something
})

test('the containers of a sandbox have its network, which goes with it', async () => {
  const flags = ['--net', 'bridge', '-h', 'pod', '-p', '8088:80']
  expect(await gantry('sandbox', 'run', '--name', 'pod', ...flags)).toMatchObject({ code: 0, stderr: '' })
  const serve = ['httpd', '-f', '-p', '80', '-h', '/etc']
  await gantry('run', '-d', '--name', 'web', '--sandbox', 'pod', image, ...serve)
  await gantry('run', '-d', '--name', 'other', '--sandbox', 'pod', image, 'sleep', '1000')

  const get = `printf 'GET /hosts HTTP/1.0\\r\\n\\r\\n' | busybox nc`
  const hosts = { code: 0, stdout: expect.stringContaining(`${await addressOf('other')}\tpod\n`) }
  expect(await gantry('exec', 'other', 'sh', '-c', `${get} 127.0.0.1 80`)).toMatchObject(hosts)
  expect(await there('sh', '-c', `${get} 127.0.0.1 8088`)).toMatchObject(hosts)
  expect(readdirSync(join(state, 'networks', namespace))).toEqual(['.pod'])
  expect(await gantry('sandbox', 'rm', '-f', 'pod')).toMatchObject({ code: 0, stderr: '' })
})

test('a port that is taken is refused, and nothing is left of the attempt', async () => {
  await gantry('run', '-d', '--name', 'first', '--net', 'bridge', '-p', '8081:80', image, 'sleep', '1000')
  expect((await gantry('port', 'first')).stdout).toBe('80/tcp -> 0.0.0.0:8081\n')
  await using listener = startDaemon(['nsenter', `--net=${netns}`, 'busybox', 'nc', '-l', '-p', '8082'])
  await until('it listens', async () => (await there('ss', '-ltn')).stdout.includes(':8082'))
  const attempt = (port: string) => gantry('run', '--rm', '--net', 'bridge', '-p', port, image, 'true')

  expect(await attempt('8081:81')).toMatchObject({
    code: 125,
    stderr: expect.stringContaining(`container ${namespace}/first has it`),
  })
  expect(await attempt('8082:80')).toMatchObject({
    code: 125,
    stderr: expect.stringContaining('a program of the host listens there'),
  })
  expect(await gantry('run', '--rm', '--net', 'nope', image, 'true')).toMatchObject({
    code: 125,
    stderr: expect.stringContaining('choose one of bridge'),
  })
  expect((await gantry('ps', '-aq')).stdout.trim().split('\n')).toHaveLength(1)
  expect(readdirSync(join(state, 'networks', namespace))).toEqual(['first'])
  expect(listener.running()).toBe(true)
})

test('a container that ends by itself keeps no network, though nobody deletes it', async () => {
  await gantry('run', '-d', '--name', 'short', '--net', 'bridge', '-p', '8083:80', image, 'true')

  await freed()
  expect((await gantry('ps', '-a')).stdout).toContain('Exited (0)')
})

test('a killed tasks takes running networks over, and frees those whose container ended meanwhile', async () => {
  await gantry('run', '-d', '--name', 'stays', '--net', 'bridge', '-p', '8084:80', image, 'sleep', '1000')
  await gantry('run', '-d', '--name', 'ends', '--net', 'bridge', '-p', '8085:80', image, 'sleep', '1000')
  const address = await addressOf('stays')
  const pid = Number(((await gantry('ps', '--json')).stdout.match(/"id":"ends".*?"pid":(\d+)/) ?? [])[1])

  await signal(node, 'tasks', 'SIGKILL')
  process.kill(pid, 'SIGKILL')

  await until('one is freed', () => readdirSync(join(state, 'networks', namespace)).join() === 'stays')
  await until('the node answers', async () => (await gantry('ps', '-q')).code === 0)
  expect(await addressOf('stays')).toBe(address)
  const taken = await gantry('run', '--rm', '--net', 'bridge', '-p', '8084:80', image, 'true')
  expect(taken.stderr).toContain(`container ${namespace}/stays has it`)
})

test('a killed node frees at its next start what it was making', async () => {
  const attempts: Promise<Outcome>[] = []
  for (const n of [1, 2, 3]) attempts.push(gantry('run', '--rm', '--net', 'bridge', '-p', `809${n}:80`, image, 'true'))
  await until('a network is being made', async () => (await remains()).length > 0)

  await signal(node, 'tasks', 'SIGKILL')

  await Promise.all(attempts)
  await until('the node answers', async () => (await gantry('ps', '-q')).code === 0)
  await freed()
})
