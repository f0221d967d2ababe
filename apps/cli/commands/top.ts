import { closeSync, openSync, readSync } from 'node:fs'
import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { table } from '../format/table.ts'
import { taskOf } from '../run/end-task.ts'
import { openSession, printJson } from '../session.ts'

const MAX_BYTES = 4096 // of what a process says of itself

/** `gantry top`: the processes of a container, as the host of the node knows them. */
export function createCommand(context: Context): Command {
  return new Command('top')
    .description('Lists the processes of a container, with their pids and users on the host.')
    .argument('<container>')
    .action(async (name: string, _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal } = session
      const task = await taskOf(client, (await findContainer(client, name, signal)).id, signal)
      if (!task || (await task.status(signal)).status === 'stopped')
        throw new Fault('failed-precondition', `Cannot list the processes of "${name}": it is not running`)
      const isHere = !session.address.startsWith('tcp://')
      const processes = (await task.pids(signal)).map((one) => ({ ...one, ...(isHere && lookAt(one.pid)) }))
      if (session.json) return printJson(session, processes)
      const rows = processes.map(({ pid, execId = '', uid = '', command = [] }) => [
        ...[String(pid), String(uid), command.join(' '), execId],
      ])
      session.stdout.write(table(['PID', 'UID', 'COMMAND', 'EXEC'], rows))
    })
}

/** Whose it is on this host, and what it was told to run, as it says itself; nothing of one that is gone. */
export function lookAt(pid: number): { readonly uid?: number; readonly command?: readonly string[] } {
  try {
    const uid = /^Uid:\t(\d+)/m.exec(readStart(`/proc/${pid}/status`))?.[1]
    const command = readStart(`/proc/${pid}/cmdline`).replace(/\0$/, '').split('\0')
    return { uid: Number(uid), command }
  } catch {
    return {}
  }
}

/** A process may say that its command line is as long as its memory: prctl(2), `PR_SET_MM_MAP`. */
function readStart(path: string): string {
  const fd = openSync(path, 'r')
  try {
    const buffer = Buffer.alloc(MAX_BYTES)
    return buffer.toString('utf8', 0, readSync(fd, buffer))
  } finally {
    closeSync(fd)
  }
}
