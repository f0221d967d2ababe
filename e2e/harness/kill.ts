/** Signals to single processes of a node. */
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { until } from './daemon.ts'
import { commandOf, family } from './leaks.ts'
import type { Running } from './running.ts'

/** The pid of `content`, `tasks` ... or `nats-server`, undefined while it does not run. */
export function processOf({ daemon }: Pick<Running, 'daemon'>, name: string): number | undefined {
  const is = (pid: number) => {
    const command = commandOf(pid)
    return name === 'nats-server'
      ? /^\S*nats-server /.test(command)
      : new RegExp(`apps/${name}/(dist/)?main`).test(command)
  }
  return family(daemon.pid).find(is)
}

/** Waits until the process is there, sends it the signal and returns its pid. */
export async function signal(node: Pick<Running, 'daemon'>, name: string, what: NodeJS.Signals): Promise<number> {
  await until(`${name} runs`, () => processOf(node, name) !== undefined)
  const pid = processOf(node, name)
  if (pid === undefined || pid < 2) throw new Error(`${name} does not run`) // kill(-1) would be everybody
  process.kill(pid, what)
  return pid
}

/**
 * Waits until another process has taken the place of one that was killed, and listens: on a busy machine it starts for longer
 * than calls wait.
 */
export async function untilReplaced(node: Running, name: string, before: number): Promise<void> {
  const socket = join(dirname(node.address), name === 'gateway' ? 'gantry.sock' : `${name}.sock`)
  const isBack = async () =>
    ![undefined, before].includes(processOf(node, name)) && (name === 'nats-server' || (await accepts(socket)))
  await until(`${name} is back`, isBack, { withinMs: 60_000, context: () => node.daemon.log().slice(-3000) })
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}
