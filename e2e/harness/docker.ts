/** Debian's dockerd, unmodified, on top of the daemon under test; it keeps images itself and leaves running them to us. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type CommandOptions, type Outcome, run, runOnTerminal } from './command.ts'
import { startDaemon, until } from './daemon.ts'
import { lastingTraces, mounts } from './leaks.ts'
import type { Running } from './running.ts'

const CLIENT = '/usr/bin/docker'

export interface Docker extends AsyncDisposable {
  docker(args: readonly string[], options?: CommandOptions): Promise<Outcome>
  dockerOnTerminal(args: readonly string[]): Promise<Outcome>
}

/** Starts it without networks of its own, so that it touches nothing of the host's. Disposing fails on what it leaves. */
export async function startDocker({ address }: Pick<Running, 'address'>): Promise<Docker> {
  const dir = mkdtempSync(join(tmpdir(), 'gd-'))
  const client = [CLIENT, '--config', dir, '-H', `unix://${dir}/docker.sock`]
  const daemon = startDaemon([
    ...['dockerd', '--containerd', address, '-H', `unix://${dir}/docker.sock`, '-p', join(dir, 'pid')],
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
    docker: (args, options) => run([...client, ...args], options),
    dockerOnTerminal: (args) => runOnTerminal([...client, ...args]),
    async [Symbol.asyncDispose]() {
      await daemon.stop()
      // on a host whose root is mounted private, dockerd binds its folder onto itself and leaves that
      if (mounts({ dir, namespaces: [] }).includes(`mount ${dir}/data`)) await run(['umount', join(dir, 'data')])
      expect(await lastingTraces({ dir, namespaces: ['moby'] })).toEqual([])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
