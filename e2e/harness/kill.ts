/** Signals to single processes of a node. */
import { until } from './daemon.ts'
import { commandOf, family } from './leaks.ts'
import type { Running } from './running.ts'

/** The pid of `content`, `tasks` ... or `nats-server`, undefined while it does not run. */
export function processOf({ daemon }: Pick<Running, 'daemon'>, name: string): number | undefined {
  const is = (pid: number) => {
    const command = commandOf(pid)
    return name === 'nats-server' ? /^\S*nats-server /.test(command) : command.includes(`apps/${name}/main`)
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
