import { setTimeout as sleep } from 'node:timers/promises'
import type { Envelope } from '@gantry/client/events'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { collect } from '../run/collecting.ts'
import { openSession, printJson, type Session } from '../session.ts'
import { parseSince } from '../since.ts'
import { printable } from '../text.ts'

const QUIET_MS = 500 // when nothing comes for so long, the log is read

interface Options {
  readonly since?: string
  readonly until?: string
  readonly filter: readonly string[]
  readonly allNamespaces?: boolean
  readonly follow: boolean
}

/** `gantry events`: prints what happens, from now on or from a place in the log. */
export function createCommand(context: Context): Command {
  return new Command('events')
    .description('Prints events as they happen. With --since it first prints those that happened, and misses none.')
    .option('--since <start>', 'a sequence number, a time, or how long ago, such as 10m')
    .option('--until <end>', 'the last sequence number, or the time of the end; past what happened so far it waits')
    .option('--filter <filter>', 'such as topic~=/tasks/ (repeatable: any may match)', collect, [])
    .option('-A, --all-namespaces', 'not only those of the namespace')
    .option('--no-follow', 'end when the log is read')
    .action(async (options: Options, command: Command) => {
      const from = options.since === undefined ? undefined : parseSince(options.since, new Date())
      const until = options.until === undefined ? undefined : parseSince(options.until, new Date(), 'end')
      await using session = openSession(command, context)
      const filters = options.allNamespaces ? options.filter : within(session.namespace, options.filter)
      const end = new AbortController()
      const signal = AbortSignal.any([session.signal, end.signal])
      const quietMs = quietAfter(options, until)
      const quiet = quietMs === undefined ? undefined : createQuiet(end, quietMs, session.signal)
      for await (const envelope of session.client.events.subscribe(
        { filters, ...(from !== undefined && { from }) },
        signal,
      )) {
        quiet?.heard()
        if (isPast(envelope, until)) break
        print(session, envelope)
        if (envelope.sequence === until) break
      }
    })
}

/** Events of several processes may lie in the log a moment after one another: the end is where the first later one is. */
function isPast({ sequence, timestamp }: Pick<Envelope, 'sequence' | 'timestamp'>, until: bigint | Date | undefined) {
  if (typeof until === 'bigint') return sequence !== undefined && sequence > until
  return until !== undefined && timestamp > until
}

/** When to end although the stream goes on: at the end of the log, of what is there now or at that time; in ms from now. */
function quietAfter({ follow }: Options, until: bigint | Date | undefined): number | undefined {
  if (!follow) return 0
  return until instanceof Date ? Math.max(0, until.getTime() - Date.now()) : undefined
}

/** Each filter is an alternative, so each is narrowed. */
export function within(namespace: string, filters: readonly string[]): string[] {
  const own = `namespace==${JSON.stringify(namespace)}`
  return filters.length === 0 ? [own] : filters.map((filter) => `${own},${filter}`)
}

function print(session: Session, { timestamp, namespace, topic, type, json, sequence }: Envelope): void {
  if (session.json) printJson(session, { sequence, timestamp, namespace, topic, type, event: json })
  else
    session.stdout.write(`${timestamp.toISOString()} ${printable(`${namespace} ${topic} ${JSON.stringify(json)}`)}\n`)
}

/** Aborts `end` when nothing was heard for a while, though not before `afterMs` are over. */
function createQuiet(end: AbortController, afterMs: number, signal: AbortSignal): { heard(): void } {
  let last = Date.now() + afterMs + QUIET_MS // the first answer may take longer
  const watch = async (): Promise<void> => {
    while (Date.now() - last < QUIET_MS) await sleep(QUIET_MS / 5, undefined, { signal })
    end.abort()
  }
  void watch().catch(() => undefined)
  return {
    heard: () => {
      last = Math.max(last, Date.now())
    },
  }
}
