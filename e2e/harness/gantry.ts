/** A node of ours, started as a user starts it: `gantry up`. */
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startDaemon, until } from './daemon.ts'
import { commandOf, family } from './leaks.ts'
import type { Running } from './running.ts'

/** the top of the working copy */
export const WORKSPACE = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
export const GANTRY = join(WORKSPACE, 'apps', 'cli', 'gantry')

/**
 * Starts a node and waits until it says that it is ready. Options as of `gantry up`.
 *
 * @param by a program that runs it, with its arguments
 */
export async function startGantry(
  root: string,
  state: string,
  options: readonly string[] = [],
  by: readonly string[] = [],
): Promise<Running> {
  let address = ''
  const daemon = startDaemon([...by, GANTRY, 'up', '--root', root, '--state', state, ...options])
  const isReady = () => {
    if (!daemon.running()) throw new Error('gantry up ended')
    address = /gantry is ready on (\S+)/.exec(daemon.log())?.[1] ?? ''
    return address !== ''
  }
  try {
    await until('the node is ready', isReady, { withinMs: 30_000, context: () => daemon.log().slice(-4000) })
  } catch (error) {
    await daemon[Symbol.asyncDispose]()
    throw error
  }
  return {
    daemon,
    address,
    [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose](),
    snapshotFolders: join(root, 'snapshots', 'overlayfs'),
    // a monitor (conmon) is a container's, even while it is still a child of ours
    pids: () => family(daemon.pid).filter((pid) => /node|nats-server|gantry/.test(commandOf(pid).split(' ')[0] ?? '')),
  }
}

/** Our own command line, pointed at a node. */
export function gantryEnv(address: string, namespace: string): Record<string, string> {
  return { GANTRY_ADDRESS: address, GANTRY_NAMESPACE: namespace }
}
