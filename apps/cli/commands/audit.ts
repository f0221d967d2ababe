import type { Record as AuditRecord } from '@gantry/api/gantry/audit/v1/audit_pb'
import { toMs, toTimestamp } from '@gantry/model/clock'
import { Fault } from '@gantry/model/fault'
import { nameOfCode } from '@gantry/rpc/status'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { openSession, printJson, type Session } from '../session.ts'
import { parseSince } from '../since.ts'
import { printable } from '../text.ts'

/** `gantry audit`: prints who changed what, in all namespaces. */
export function createCommand(context: Context): Command {
  return new Command('audit')
    .description(
      'Prints the calls that changed something, and those that were refused: who, what, where, with which result.',
    )
    .option('--since <start>', 'a time, or how long ago, such as 10m (default: all that is kept)')
    .action(async (options: { since?: string }, command: Command) => {
      const since = options.since === undefined ? undefined : parseSince(options.since, new Date())
      if (typeof since === 'bigint')
        throw new Fault('invalid-argument', 'Cannot start at a number: give a time, or how long ago, such as 10m')
      await using session = openSession(command, context)
      const { services, call } = session.client
      const request = since === undefined ? {} : { since: toTimestamp(since) }
      for await (const { records, dropped } of services.audit.read(request, call(session.signal))) {
        if (dropped > 0n) printDropped(session, dropped)
        for (const record of records) print(session, record)
      }
    })
}

function print(session: Session, { $typeName: _, time, durationUs, code, ...record }: AuditRecord): void {
  const at = new Date(time ? toMs(time) : 0)
  const result = code === 0 ? 'OK' : nameOfCode(code)
  const durationMs = Number(durationUs) / 1000
  if (session.json) printJson(session, { time: at, ...record, result, durationMs })
  else
    session.stdout.write(`${at.toISOString()} ${printable(lineOf(record, [result, `${durationMs.toFixed(1)} ms`]))}\n`)
}

function lineOf({ caller, pid, method, namespace, target }: Partial<AuditRecord>, rest: readonly string[]): string {
  return [pid ? `${caller} (pid ${pid})` : caller, method, namespace || '-', target || '-', ...rest].join('  ')
}

function printDropped(session: Session, dropped: bigint): void {
  if (session.json) printJson(session, { dropped })
  else session.stderr.write(`gantry: ${dropped} records are missing here: calls came faster than they could be kept\n`)
}
