import type { Use } from '@gantry/api/gantry/collection/v1/collection_pb'
import { Command } from 'commander'
import { kindOf, openCollector } from '../collection/collector.ts'
import type { Context } from '../context.ts'
import { formatSize } from '../format/size.ts'
import { table } from '../format/table.ts'
import { openSession, printJson } from '../session.ts'

/** `gantry df`: what takes room on disk. */
export function createCommand(context: Context): Command {
  return new Command('df')
    .description(
      'Shows what takes room on disk, in all namespaces. What is shared counts for each image and each namespace that has it. ' +
        'What cannot be measured within ten seconds is left out, which a + after the figure says.',
    )
    .option('-s, --snapshots', 'show each snapshot, too')
    .action(async ({ snapshots = false }: { snapshots?: boolean }, command: Command) => {
      await using session = openSession(command, context)
      await using open = openCollector(session)
      const { uses } = await open.collector.usage({}, { signal: session.signal })
      const shown = uses.filter(({ thing, isOrphan }) => snapshots || isOrphan || !thing?.kind.startsWith('snapshots/'))
      if (session.json) return printJson(session, uses.map(toJson))
      session.stdout.write(table(['NAMESPACE', 'KIND', 'NAME', 'BLOBS', 'SNAPSHOTS', 'KEPT'], shown.map(rowOf)))
    })
}

function rowOf({ thing, contentBytes, snapshotBytes, isOrphan, unmeasured }: Use): string[] {
  const kept = isOrphan ? 'no' : 'yes'
  return [
    thing?.namespace ?? '',
    kindOf(thing),
    thing?.id ?? '',
    formatSize(contentBytes),
    `${formatSize(snapshotBytes)}${unmeasured > 0 ? '+' : ''}`,
    kept,
  ]
}

function toJson({ thing, contentBytes, snapshotBytes, isOrphan, unmeasured }: Use) {
  const { namespace, kind, id } = thing ?? {}
  return { namespace, kind, id, contentBytes, snapshotBytes, unmeasured, kept: !isOrphan }
}
