import type { Container } from '@gantry/client/containers'
import type { TaskInfo } from '@gantry/client/tasks'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { shortId } from '../find-container.ts'
import { formatAge } from '../format/age.ts'
import { familiarName } from '../format/image-name.ts'
import { table } from '../format/table.ts'
import { passes } from '../ps-filter.ts'
import { collect } from '../run/collecting.ts'
import { rememberedExit } from '../run/exit-labels.ts'
import { openSession, printJson } from '../session.ts'

const MAX_COMMAND = 24 // characters

/** `gantry ps`: which containers run; with -a all. */
export function createCommand(context: Context): Command {
  return new Command('ps')
    .description('Lists containers that run.')
    .option('-a, --all', 'also those that do not run')
    .option('-q, --quiet', 'ids only')
    .option('-f, --filter <filter>', 'name=, id=, status=, label=, ancestor= (repeatable)', collect, [])
    .option('--no-trunc', 'ids and commands in full')
    .action(async ({ all, quiet, filter, trunc }: Options, command: Command) => {
      const passing = passes(filter)
      const shown = trunc ? shortId : (id: string) => id
      await using session = openSession(command, context)
      const { client, signal, stdout } = session
      const [containers, tasks] = await Promise.all([client.containers.list([], signal), client.tasks.list(signal)])
      const byId = new Map(tasks.map((task) => [task.containerId, task]))
      const now = new Date()
      const rows = containers
        .map((container) => ({ container, task: byId.get(container.id) }))
        .filter(({ task }) => all || isLive(task) || filter.some((text) => text.startsWith('status=')))
        .filter(({ container, task }) => passing(container, stateOf({ container, task })))
        .toSorted((a, b) => b.container.createdAt.getTime() - a.container.createdAt.getTime())
      if (session.json) return printJson(session, rows.map(toJson))
      if (quiet) return void stdout.write(rows.map(({ container }) => `${shown(container.id)}\n`).join(''))
      const heading = ['CONTAINER ID', 'IMAGE', 'COMMAND', 'CREATED', 'STATUS', 'PID']
      stdout.write(
        table(
          heading,
          rows.map((row) => toRow(row, { now, trunc })),
        ),
      )
    })
}

interface Options {
  readonly all?: boolean
  readonly quiet?: boolean
  readonly filter: readonly string[]
  readonly trunc: boolean
}

interface Row {
  readonly container: Container
  readonly task: TaskInfo | undefined
}

function isLive(task: TaskInfo | undefined): boolean {
  return task !== undefined && task.status !== 'stopped' && task.status !== 'unknown'
}

function toRow({ container, task }: Row, { now, trunc }: { now: Date; trunc: boolean }): string[] {
  const { id, image, createdAt } = container
  return [
    trunc ? shortId(id) : id,
    imageOf(image),
    commandOf(container, trunc ? MAX_COMMAND : Number.POSITIVE_INFINITY),
    formatAge(createdAt, now),
    statusOf({ container, task }, now),
    task && isLive(task) ? String(task.pid) : '',
  ]
}

/** What filters call it. */
function stateOf({ container, task }: Row): string {
  if (task?.status === 'stopped' || (!task && rememberedExit(container))) return 'exited'
  return task === undefined ? 'created' : task.status
}

/** In Docker's words. */
export function statusOf({ container, task }: Row, now: Date): string {
  if (task && task.status !== 'stopped') return STATUS[task.status]
  const exit = task ? { status: task.exitStatus, at: task.exitedAt ?? now } : rememberedExit(container)
  return exit ? `Exited (${exit.status}) ${formatAge(exit.at, now)}` : 'Created'
}

const STATUS = {
  running: 'Up',
  created: 'Created',
  paused: 'Up (Paused)',
  pausing: 'Up (Pausing)',
  unknown: 'Unknown',
} as const

function imageOf(image: string): string {
  const { repository, tag } = familiarName(image)
  return tag === '<none>' ? repository : `${repository}:${tag}`
}

function commandOf({ spec }: Container, max: number): string {
  const text = spec?.process.args.join(' ') ?? ''
  return `"${text.length > max ? `${text.slice(0, max - 1)}…` : text}"`
}

/** For machines. */
export function toJson({ container, task }: Row): object {
  const { id, image, labels, createdAt, runtime, snapshotter, spec } = container
  const exit = task?.status === 'stopped' ? { status: task.exitStatus, at: task.exitedAt } : rememberedExit(container)
  return {
    ...{ id, image, labels, createdAt, runtime, snapshotter },
    command: spec?.process.args,
    status: task?.status ?? (exit ? 'stopped' : 'created'),
    pid: isLive(task) ? task?.pid : undefined,
    exitStatus: exit?.status,
    exitedAt: exit?.at,
  }
}
