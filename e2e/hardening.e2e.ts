/** Letters E, F and G of what runtimes were broken with: sockets and folders, descriptors, exhaustion. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@gantry/client/client'
import { beforeAll, describe, expect, test } from 'vitest'
import { processOf } from './harness/kill.ts'
import { family } from './harness/leaks.ts'
import { pssOf } from './harness/memory.ts'
import { onGantry } from './harness/target.ts'

const NOBODY = '65534'
const never = new AbortController().signal

onGantry((target) => {
  let image = ''
  beforeAll(async () => {
    image = await target().pull()
  })

  describe('E: sockets and folders', () => {
    test('CVE-2020-15257: no socket of ours is abstract, and each is for root alone but the public one', async () => {
      await target().ctr(['run', '-d', image, 'box', 'sleep', '1000'])
      const open = new Set(family(target().daemon.pid).flatMap(socketsOf))
      const ours = unixSockets().filter(({ inode }) => open.has(inode))
      const files = ours.filter(({ path }) => path.startsWith('/')).map(({ path }) => path)
      const seen = await target().ctr(['tasks', 'exec', '--exec-id', 'e', 'box', 'cat', '/proc/net/unix'])
      await target().ctr(['tasks', 'rm', '-f', 'box'])
      await target().ctr(['containers', 'rm', 'box'])

      expect(ours.filter(({ path }) => path.startsWith('@'))).toEqual([])
      expect(files).toContain(target().address)
      for (const path of files)
        expect([path, statSync(path).mode & 0o777]).toEqual([path, path === target().address ? 0o660 : 0o600])
      expect(seen.stdout).not.toContain(target().dir)
    })

    test('CVE-2021-41103, CVE-2024-25621: nobody but root walks into what is kept and what runs', async () => {
      await target().ctr(['run', '-d', image, 'box', 'sleep', '1000'])
      const look = (path: string) =>
        spawnSync('setpriv', ['--reuid', NOBODY, '--regid', NOBODY, '--clear-groups', 'ls', path])
      const folders = ['root', 'state'].flatMap((top) =>
        readdirSync(join(target().dir, top), { withFileTypes: true })
          .filter((entry) => entry.isDirectory())
          .map((entry) => join(target().dir, top, entry.name)),
      )
      const bundle = join(target().dir, 'state', 'bundles', target().namespace, 'box', 'rootfs')

      const seen = [...folders, bundle].filter((path) => look(path).status === 0)

      await target().ctr(['tasks', 'rm', '-f', 'box'])
      await target().ctr(['containers', 'rm', 'box'])
      expect(folders.length).toBeGreaterThan(5)
      expect(seen).toEqual([])
    })
  })

  describe('F: descriptors', () => {
    test.each([['run'], ['exec']])(
      'CVE-2024-21626: a working folder in /proc/self/fd leads nowhere (%s)',
      async (how) => {
        if (how === 'exec') await target().ctr(['run', '-d', image, 'box', 'sleep', '1000'])
        const outcomes = []
        for (const fd of [3, 5, 7, 8, 9]) {
          const cwd = ['--cwd', `/proc/self/fd/${fd}`]
          const probe = ['sh', '-c', 'cat ../../../../../../etc/hostname ../../../../../../proc/1/comm']
          outcomes.push(
            await target().ctr(
              how === 'run'
                ? ['run', '--rm', ...cwd, image, `cwd${fd}`, ...probe]
                : ['tasks', 'exec', '--exec-id', `x${fd}`, ...cwd, 'box', ...probe],
            ),
          )
          if (how === 'run') await target().ctr(['containers', 'rm', `cwd${fd}`])
        }
        if (how === 'exec') {
          await target().ctr(['tasks', 'rm', '-f', 'box'])
          await target().ctr(['containers', 'rm', 'box'])
        }

        const host = [readFileSync('/etc/hostname', 'utf8').trim(), readFileSync('/proc/1/comm', 'utf8').trim()]
        for (const { stdout } of outcomes) for (const word of host) expect(stdout).not.toContain(word)
        expect(outcomes.filter(({ code }) => code === 0)).toEqual([])
      },
    )

    test('CVE-2016-9962: a process has its stdio and nothing else, on a terminal too', async () => {
      const list = ['sh', '-c', 'ls /proc/self/fd | wc -l; ls -l /proc/self/fd | grep -v pipe']
      const { stdout } = await target().ctr(['run', '--rm', image, 'fds', ...list])
      const terminal = await target().ctrOnTerminal(['run', '--rm', '--tty', image, 'fdt', ...list])

      // the fourth is the folder that ls itself is reading
      expect(stdout).toMatch(/^4\n/)
      expect(terminal.stdout.trim()).toMatch(/^4\r?\n/)
      expect(stdout + terminal.stdout).not.toContain(target().dir)
    })

    test('CVE-2019-16884: a mount over /proc is refused', async () => {
      const mount = `type=bind,src=${target().dir},dst=/proc,options=rbind:rw`
      const { code, stderr } = await target().ctr(['run', '--rm', '--mount', mount, image, 'over', 'true'])

      expect(code).not.toBe(0)
      expect(stderr).toContain('proc')
      await target().ctr(['containers', 'rm', 'over'])
    })
  })

  describe('G: exhaustion', () => {
    test('CVE-2022-31030: output that nobody reads is not kept in memory', async () => {
      await using client = createClient({ address: target().address, namespace: target().namespace })
      const container = await client.containers.create({ id: 'loud', image, spec: { args: ['sleep', '1000'] } }, never)
      const task = await client.tasks.create(container, { stdio: {} }, never)
      await task.start(never)
      const tasks = processOf(target(), 'tasks') ?? 0
      const before = pssOf([tasks])
      let heard = 0
      const goOn = Promise.withResolvers<void>()
      const stalled = new Writable({
        highWaterMark: 1,
        write(chunk: Buffer, _encoding, done) {
          heard += chunk.length
          void goOn.promise.then(() => done())
        },
      })

      const exec = await task.exec({ execId: 'yes', args: ['yes'], stdio: { stdout: stalled } }, never)
      const exit = exec.wait(never)
      await exec.start(never)
      await sleep(1500)
      const after = pssOf([tasks])
      await exec.kill(9, {}, never)
      goOn.resolve()
      await exit
      await exec.delete(never)
      const ended = task.wait(never)
      await task.kill(9, {}, never)
      await ended
      await task.delete(never)
      await client.containers.delete('loud', {}, never)

      expect(heard).toBeGreaterThan(0)
      expect(after - before).toBeLessThan(16)
    })
  })
})

function socketsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? []
      return inode === undefined ? [] : [inode]
    })
  } catch {
    return [] // it has ended, or the descriptor was closed meanwhile
  }
}

/** The unix sockets that have a name; an abstract one begins with @. */
function unixSockets(): { inode: string; path: string }[] {
  return readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([, , , , , , inode = '', path = '']) => (path === '' ? [] : [{ inode, path }]))
}
