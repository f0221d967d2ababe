/** Debian's containerd, private: its own configuration, root, state and socket, without CRI. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './command.ts'
import { startDaemon, until } from './daemon.ts'
import type { Running } from './running.ts'

/** @param extra lines at the end of its configuration */
export async function startContainerd(root: string, state: string, extra: readonly string[] = []): Promise<Running> {
  const address = join(state, 'containerd.sock')
  const config = [
    'version = 2',
    `root = "${root}"`,
    `state = "${state}"`,
    'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
    '[grpc]',
    `address = "${address}"`,
    '[ttrpc]',
    `address = "${address}.ttrpc"`,
    '[plugins."io.containerd.internal.v1.opt"]',
    `path = "${root}/opt"`,
    ...extra,
  ]
  writeFileSync(join(root, 'config.toml'), config.join('\n'))
  const daemon = startDaemon(['containerd', '--config', join(root, 'config.toml')])
  await until(
    'containerd answers',
    async () => existsSync(address) && (await run(['ctr', '-a', address, 'version'])).code === 0,
    {
      context: daemon.log,
    },
  )
  return {
    daemon,
    address,
    [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose](),
    snapshotFolders: join(root, 'io.containerd.snapshotter.v1.overlayfs', 'snapshots'),
    pids: () => [daemon.pid], // its shims belong to containers
  }
}
