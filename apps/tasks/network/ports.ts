import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { Fault } from '@gantry/model/fault'
import { formatPort, type PublishedPort } from '@gantry/model/network'

/**
 * Publishing twice would not fail, it would silently lead to one of the two: so it is looked for.
 *
 * @param claims the ports of all others
 * @throws {Fault} `failed-precondition` for a port that another container has
 */
export function checkClaims(
  wanted: readonly PublishedPort[],
  claims: Iterable<readonly [owner: string, ports: readonly PublishedPort[]]>,
): void {
  for (const [owner, ports] of claims)
    for (const port of wanted)
      if (ports.some((other) => overlap(port, other))) throw taken(port, `container ${owner} has it`)
}

/** @throws {Fault} `failed-precondition` for a port that a program of the host has */
export async function checkListeners(wanted: readonly PublishedPort[]): Promise<void> {
  const all = wanted.map(async (port) => {
    if (!(await isFree(port))) throw taken(port, 'a program of the host listens there')
  })
  await Promise.all(all)
}

function taken(port: PublishedPort, why: string): Fault {
  return new Fault('failed-precondition', `Cannot publish ${formatPort(port)}: ${why}`)
}

function overlap(a: PublishedPort, b: PublishedPort): boolean {
  const everywhere = (ip: string): boolean => ip === '' || ip === '0.0.0.0' || ip === '::'
  const meet = a.hostIp === b.hostIp || everywhere(a.hostIp) || everywhere(b.hostIp)
  return meet && a.hostPort === b.hostPort && a.protocol === b.protocol
}

/** Listens for a moment. What else may fail (an address that is not ours) is not for this to tell. */
async function isFree({ hostIp, hostPort, protocol }: PublishedPort): Promise<boolean> {
  if (protocol === 'sctp') return true
  const host = hostIp === '' ? undefined : hostIp
  const socket = protocol === 'tcp' ? createServer() : createSocket(hostIp.includes(':') ? 'udp6' : 'udp4')
  try {
    const ready = once(socket, 'listening')
    if ('bind' in socket) socket.bind(hostPort, host)
    else socket.listen(hostPort, host)
    await ready
    return true
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')
  } finally {
    socket.close(() => undefined)
  }
}
