/** Debian's dockerd, unmodified, on top of the daemon under test (it keeps images itself and leaves running them to us), or on its own. */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type CommandOptions, type Outcome, run, runOnTerminal } from './command.ts'
import { startDaemon, until } from './daemon.ts'
import { lastingTraces, mounts } from './leaks.ts'
import type { Running } from './running.ts'

const CLIENT = '/usr/bin/docker'

export interface Docker extends AsyncDisposable {
  /** for clients: the value of DOCKER_HOST */
  readonly host: string
  docker(args: readonly string[], options?: CommandOptions): Promise<Outcome>
  dockerOnTerminal(args: readonly string[]): Promise<Outcome>
}

/**
 * Starts it without networks of its own, so that it touches nothing of the host's. Disposing fails on what it leaves.
 *
 * @param below what runs its containers; without, it starts a containerd
 */
export async function startDocker(below?: Pick<Running, 'address'>): Promise<Docker> {
  const dir = mkdtempSync(join(tmpdir(), 'gd-'))
  const host = `unix://${dir}/docker.sock`
  const client = [CLIENT, '--config', dir, '-H', host]
  const runs = join(dir, 'containerd.sock') // a path of its own: whoever looks for what `below` left does not take dockerd for it
  if (below) symlinkSync(below.address, runs)
  const daemon = startDaemon([
    ...['dockerd', '-H', host, '-p', join(dir, 'pid'), ...(below ? ['--containerd', runs] : [])],
    ...['--data-root', join(dir, 'data'), '--exec-root', join(dir, 'exec'), '--storage-driver', 'overlay2'],
    ...['--bridge', 'none', '--iptables=false', '--ip6tables=false', '--cgroup-parent', '/moby'],
  ])
  const isUp = async () => daemon.running() && (await run([...client, 'version'])).code === 0
  try {
    await until('dockerd answers', isUp, { withinMs: 30_000, context: () => daemon.log().slice(-4000) })
  } catch (error) {
    await daemon[Symbol.asyncDispose]()
    throw error
  }
  return {
    host,
    docker: (args, options) => run([...client, ...args], options),
    dockerOnTerminal: (args) => runOnTerminal([...client, ...args]),
    async [Symbol.asyncDispose]() {
      await daemon.stop()
      // what dockerd itself leaves: its folder, bound onto itself where the root is mounted private, and the host's network
      const own = ['data', 'exec/netns/default'].map((name) => join(dir, name))
      const left = mounts({ dir, namespaces: [] })
      for (const point of own) if (left.includes(`mount ${point}`)) await run(['umount', point])
      expect(await lastingTraces({ dir, namespaces: ['moby'] })).toEqual([])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
