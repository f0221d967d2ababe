import { readFileSync } from 'node:fs'
import { Status } from '@gantry/api/gantry/status/v1/status_pb'
import { type Binding, bind } from '@gantry/rpc/service'
import type { Bus } from './bus.ts'
import { VERSION } from './version.ts'

const KIB = 1024

/** gantry.status.v1.Status of one process. @param parts.eventsBehind events that are stored and not in the log yet */
export function statusBinding(app: string, parts: { bus: Pick<Bus, 'server'>; eventsBehind: () => number }): Binding {
  const startedMs = BigInt(Math.round(Date.now() - process.uptime() * 1000))
  return bind(Status, {
    get: async () => ({
      ...{ app, version: VERSION, pid: process.pid, startedMs },
      residentBytes: BigInt(process.memoryUsage.rss()),
      proportionalBytes: BigInt(proportionalBytes()),
      ...(parts.bus.server && { bus: parts.bus.server }),
      eventsBehind: BigInt(parts.eventsBehind()),
    }),
  })
}

/** Pages that several processes share count in part for each; 0 where the kernel does not tell. */
function proportionalBytes(): number {
  try {
    return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))?.[1] ?? 0) * KIB
  } catch {
    return 0
  }
}
