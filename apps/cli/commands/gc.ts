import type { Garbage } from '@gantry/api/gantry/collection/v1/collection_pb'
import { Command } from 'commander'
import { kindOf, openCollector } from '../collection/collector.ts'
import type { Context } from '../context.ts'
import { formatSize } from '../format/size.ts'
import { table } from '../format/table.ts'
import { openSession, printJson } from '../session.ts'

/** `gantry gc`: removes what nothing refers to, now. */
export function createCommand(context: Context): Command {
  return new Command('gc')
    .description('Removes what nothing refers to, in all namespaces. The node does so by itself; this waits for it.')
    .option('--dry-run', 'only show what would go, and why')
    .action(async ({ dryRun = false }: { dryRun?: boolean }, command: Command) => {
      await using session = openSession(command, context)
      await using open = openCollector(session)
      const garbage: Garbage[] = []
      for await (const part of open.collector.collect({ dryRun }, { signal: session.signal }))
        garbage.push(...part.garbage)
      if (session.json) return printJson(session, garbage.map(toJson))
      const rows = garbage.map(({ thing, size, why }) => [
        thing?.namespace ?? '',
        kindOf(thing),
        thing?.id ?? '',
        formatSize(size),
        why,
      ])
      if (rows.length > 0) session.stdout.write(table(['NAMESPACE', 'KIND', 'NAME', 'SIZE', 'WHY'], rows))
      const bytes = formatSize(garbage.reduce((sum, { size }) => sum + size, 0n))
      session.stdout.write(`${rows.length} things of ${bytes} ${dryRun ? 'would go' : 'went'}\n`)
    })
}

function toJson({ thing, size, why }: Garbage) {
  return { namespace: thing?.namespace, kind: thing?.kind, id: thing?.id, size, why }
}
