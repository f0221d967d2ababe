import { accessSync, constants } from 'node:fs'
import { dirname } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { VERSION } from '@gantry/service/version'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { formatDuration } from '../format/age.ts'
import { formatSize } from '../format/size.ts'
import { table } from '../format/table.ts'
import { globalsOf } from '../globals.ts'
import { Exit } from '../report.ts'
import { printJson } from '../session.ts'
import { type ProcessStatus, readNode } from '../status/node-status.ts'
import { problemsOf } from '../status/problems.ts'

const HEADING = ['PROCESS', 'VERSION', 'PID', 'UPTIME', 'MEMORY', 'HEALTH', 'RESTARTS', 'EVENTS BEHIND', 'ADDRESS']
const UNHEALTHY = 1

/** `gantry status`: each process of a node on this host, and what is wrong. Exits with 1 when something is. */
export function createCommand(context: Context): Command {
  return new Command('status')
    .description(
      'Shows each process of a node on this host: version, uptime, memory, health, restarts, and events that wait for the ' +
        'log. Says what is wrong, and exits with 1 then.',
    )
    .option('--state <dir>', 'where the sockets of the processes are (default: the folder of --address)')
    .action(async ({ state }: { state?: string }, command: Command) => {
      const { address, json } = globalsOf(command, context)
      const folder = parseFolder(state ?? dirname(address))
      const processes = await readNode({ gateway: address, state: folder }, new AbortController().signal)
      const nowMs = Date.now()
      const problems = problemsOf(processes, { version: VERSION, nowMs })
      if (json) printJson(context, { healthy: problems.length === 0, problems, processes })
      else
        context.stdout.write(
          table(
            HEADING,
            processes.map((process) => rowOf(process, nowMs)),
          ),
        )
      if (problems.length > 0)
        throw new Exit(UNHEALTHY, new Fault('unavailable', `Not healthy: ${problems.join('; ')}`))
    })
}

/** The sockets are for root alone: whoever cannot see them must not be told that all is away. */
function parseFolder(folder: string): string {
  if (!folder.startsWith('/'))
    throw new Fault(
      'invalid-argument',
      `Cannot look at "${folder}": status looks at processes of this host, give a path`,
    )
  try {
    accessSync(folder, constants.R_OK | constants.X_OK)
    return folder
  } catch (cause) {
    const isClosed = cause instanceof Error && 'code' in cause && cause.code === 'EACCES'
    const why = isClosed
      ? 'it is closed to you, run this as root'
      : 'there is no such folder, start a node with `gantry up`'
    throw new Fault(isClosed ? 'permission-denied' : 'not-found', `Cannot look into "${folder}": ${why}`, { cause })
  }
}

function rowOf(process: ProcessStatus, nowMs: number): string[] {
  const { name, version = '-', pid = '-', startedMs, memory, health, restarts = '-', eventsBehind = '-' } = process
  return [
    ...[name, version, String(pid)],
    startedMs === undefined ? '-' : formatDuration(nowMs - startedMs),
    memory === undefined ? '-' : formatSize(memory),
    ...[health, String(restarts), String(eventsBehind), process.address || '-'],
  ]
}
