import { NETWORK_LABEL, parseNetworkLabel } from '@gantry/model/network'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { openSession, printJson } from '../session.ts'

/** `gantry port`: which ports of the node lead to a container. */
export function createCommand(context: Context): Command {
  return new Command('port')
    .description('Lists the ports of a container, and those of the node that lead to them.')
    .argument('<container>')
    .action(async (name: string, _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      const { labels } = await findContainer(session.client, name, session.signal)
      const label = labels[NETWORK_LABEL]
      const ports = label === undefined ? [] : parseNetworkLabel(label).ports
      if (session.json) return printJson(session, ports)
      for (const { hostIp, hostPort, containerPort, protocol } of ports) {
        const host = hostIp.includes(':') ? `[${hostIp}]` : hostIp || '0.0.0.0'
        session.stdout.write(`${containerPort}/${protocol} -> ${host}:${hostPort}\n`)
      }
    })
}
