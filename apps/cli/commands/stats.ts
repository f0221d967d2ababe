import { totalmem } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TaskInfo, TaskStats } from '@gantry/client/tasks'
import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { findContainer, shortId } from '../find-container.ts'
import { formatMemory, formatSize } from '../format/size.ts'
import { table } from '../format/table.ts'
import { openSession, printJson, type Session } from '../session.ts'

const PERIOD_MS = 1000 // between two looks: the use of processors is what was used in between
const HEADING = ['CONTAINER ID', 'CPU %', 'MEM USAGE / LIMIT', 'MEM %', 'BLOCK I/O', 'PIDS']

/** `gantry stats`: what containers use, again and again. */
export function createCommand(context: Context): Command {
  return new Command('stats')
    .description(
      'Shows every second what running containers use: all, unless some are named. 100 % CPU is one processor.',
    )
    .argument('[container...]')
    .option('--no-stream', 'show it once')
    .action(async (names: string[], { stream }: { stream: boolean }, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal, stdout, address } = session
      const ids: string[] = []
      for (const name of names) ids.push((await findContainer(client, name, signal)).id)
      const look = async () => runningOf(await client.tasks.stats(ids, signal), await client.tasks.list(signal))
      let before = await look()
      for (const [at, id] of ids.entries())
        if (!before.some(({ containerId }) => containerId === id))
          throw new Fault('failed-precondition', `Cannot show what "${names[at]}" uses: it is not running`)
      const draw = drawOn(session, { inPlace: stream && stdout.isTTY, hostMemory: memoryOf(address) })
      do {
        await sleep(PERIOD_MS, undefined, { signal })
        const now = await look()
        draw(usesOf(before, now))
        before = now
      } while (stream)
    })
}

interface Use extends TaskStats {
  /** Of one processor; undefined while there is nothing to compare with. */
  readonly cpuPercent: number | undefined
}

/** The node also tells of tasks that have ended and were not deleted. */
export function runningOf(stats: readonly TaskStats[], tasks: readonly TaskInfo[]): TaskStats[] {
  const ended = new Set(tasks.filter(({ status }) => status === 'stopped').map(({ containerId }) => containerId))
  return stats.filter(({ containerId }) => !ended.has(containerId))
}

/** What was used between two looks, by container. */
export function usesOf(before: readonly TaskStats[], now: readonly TaskStats[]): Use[] {
  const earlier = new Map(before.map((stats) => [stats.containerId, stats]))
  return now
    .map((stats) => ({ ...stats, cpuPercent: cpuPercent(earlier.get(stats.containerId), stats) }))
    .toSorted((a, b) => (a.containerId < b.containerId ? -1 : 1))
}

/** One that was started again meanwhile has used less than before. */
function cpuPercent(before: TaskStats | undefined, { cpuNs, at }: TaskStats): number | undefined {
  const ms = before ? at.getTime() - before.at.getTime() : 0
  if (!before || ms <= 0 || cpuNs < before.cpuNs) return undefined
  return (Number(cpuNs - before.cpuNs) / 1e6 / ms) * 100
}

/** Without a limit of its own a container may use all there is; of a host elsewhere we do not know what that is. */
function memoryOf(address: string): bigint | undefined {
  return address.startsWith('tcp://') ? undefined : BigInt(totalmem())
}

/** Writes tables, in place of the one before where that is wanted; for machines a line a container, without what is not known. */
export function drawOn(
  session: Pick<Session, 'json' | 'stdout'>,
  { inPlace, hostMemory }: { inPlace: boolean; hostMemory: bigint | undefined },
): (uses: readonly Use[]) => void {
  let height = 0
  return (uses) => {
    if (session.json) {
      for (const { containerId: id, ...use } of uses) printJson(session, { id, ...use })
      return
    }
    const up = inPlace && height > 0 ? `\x1b[${height}A\r\x1b[0J` : ''
    height = uses.length + 1
    session.stdout.write(
      up +
        table(
          HEADING,
          uses.map((use) => rowOf(use, hostMemory)),
        ),
    )
  }
}

function rowOf(use: Use, hostMemory: bigint | undefined): string[] {
  const { containerId, memory, memoryLimit = hostMemory, readBytes, writtenBytes, pids } = use
  return [
    shortId(containerId),
    percent(use.cpuPercent),
    `${formatMemory(memory)} / ${memoryLimit === undefined ? '--' : formatMemory(memoryLimit)}`,
    percent(memoryLimit === undefined ? undefined : (Number(memory) / Number(memoryLimit)) * 100),
    `${formatSize(readBytes)} / ${formatSize(writtenBytes)}`,
    String(pids),
  ]
}

function percent(value: number | undefined): string {
  return value === undefined ? '--' : `${value.toFixed(2)}%`
}
