/** Containers that are started again, by the labels of containerd's monitor. */
import { mkdtempSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { until } from './harness/daemon.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { signal } from './harness/kill.ts'
import { onGantry } from './harness/target.ts'

interface Shown {
  readonly id: string
  readonly status: string
  readonly pid?: number
  readonly labels: Readonly<Record<string, string>>
}

onGantry((target) => {
  const image = inject('image')
  const gantry = (...args: string[]) => run([GANTRY, ...args], { env: gantryEnv(target().address, target().namespace) })
  const shown = async (name: string): Promise<Shown | undefined> =>
    (JSON.parse((await gantry('ps', '-a', '--json')).stdout || '[]') as Shown[]).find(({ id }) => id === name)
  const countOf = async (name: string) => Number((await shown(name))?.labels['containerd.io/restart.count'] ?? 0)
  /** A container that counts its starts in a file of the host, then runs the script. */
  const start = async (name: string, policy: string, script: string) => {
    const folder = mkdtempSync(join(target().dir, 'counted-'))
    const flags = ['--name', name, '--restart', policy, '-v', `${folder}:/counted`]
    const started = await gantry('run', '-d', ...flags, image, 'sh', '-c', `echo >> /counted/starts; ${script}`)
    expect(started).toMatchObject({ code: 0, stderr: '' })
    return () => {
      try {
        return readFileSync(join(folder, 'starts'), 'utf8').length
      } catch {
        return 0
      }
    }
  }

  beforeAll(async () => {
    await target().pull()
  })
  afterEach(async () => {
    for (const name of ['fails', 'again', 'kept']) await gantry('rm', '-f', name)
  })

  test('on-failure:2 tries twice more, and not after a good end', async () => {
    const fails = await start('fails', 'on-failure:2', 'exit 3')
    const good = await start('again', 'on-failure', '[ $(wc -l < /counted/starts) -ge 2 ]')

    await until('it failed often enough', () => fails() === 3)
    await until('the other went well', () => good() === 2)
    await until('both have ended', async () => (await gantry('ps', '-q')).stdout === '')
    expect([await countOf('fails'), await countOf('again')]).toEqual([2, 1])
    expect([fails(), good()]).toEqual([3, 2])
  })

  test('always starts a killed container again, stop ends it, rm -f removes one that comes back', async () => {
    const starts = await start('again', 'always', 'exec sleep 1000')
    process.kill((await shown('again'))?.pid ?? 0, 'SIGKILL')

    await until('it runs again', async () => starts() === 2 && (await shown('again'))?.status === 'running')
    expect((await gantry('stop', '-t', '0', 'again')).code).toBe(0)
    expect((await shown('again'))?.labels).toMatchObject({
      'containerd.io/restart.status': 'stopped',
      'containerd.io/restart.explicitly-stopped': 'true',
    })
    await start('fails', 'always', 'exit 1')
    expect(await gantry('rm', '-f', 'fails')).toEqual({ code: 0, stdout: 'fails\n', stderr: '' })
    expect(await shown('fails')).toBeUndefined()
    expect(starts()).toBe(2)
  })

  test('what ends while tasks is dead is started again when it is back', async () => {
    const starts = await start('kept', 'unless-stopped', 'exec sleep 1000')
    const pid = (await shown('kept'))?.pid ?? 0

    await signal(target(), 'tasks', 'SIGKILL')
    process.kill(pid, 'SIGKILL')

    await until('it runs again', async () => starts() === 2 && (await shown('kept'))?.status === 'running')
    expect(await countOf('kept')).toBe(1)
  })

  test('labels that somebody else sets count, with the next look at all containers', async () => {
    const { ctr } = target()
    await ctr(['containers', 'create', image, 'kept', 'sleep', '1000'])
    await ctr(['containers', 'label', 'kept', 'containerd.io/restart.status=running'])
    await start('again', 'always', 'exec sleep 1000')
    await ctr(['containers', 'label', 'again', 'containerd.io/restart.status=stopped'])

    const status = async (name: string) => (await shown(name))?.status
    await until('one runs', async () => (await status('kept')) === 'running', { withinMs: 30_000 })
    await until('the other has ended', async () => (await status('again')) === 'stopped', { withinMs: 30_000 })
  })

  test('a policy is announced to clients, and one that is none is refused', async () => {
    expect((await target().ctr(['plugins', 'ls', '-d', 'id==restart'])).stdout).toContain('unless-stopped')
    expect(await gantry('run', '-d', '--restart', 'often', image)).toMatchObject({
      stderr: expect.stringContaining('give no, always, unless-stopped'),
    })
    expect(await gantry('run', '--restart', 'always', image)).toMatchObject({ code: 125 })
  })
})
