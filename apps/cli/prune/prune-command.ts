import { isFault } from '@gantry/model/fault'
import { Command } from 'commander'
import { openCollector } from '../collection/collector.ts'
import type { Context } from '../context.ts'
import { formatSize } from '../format/size.ts'
import { collect } from '../run/collecting.ts'
import { openSession, printJson, type Session } from '../session.ts'
import { printable } from '../text.ts'
import { confirm } from './confirm.ts'
import { pruneContainers } from './containers.ts'
import { pruneImages } from './images.ts'
import { labelFilter } from './label-filter.ts'

interface Options {
  readonly all?: boolean
  readonly force?: boolean
  readonly filter: readonly string[]
}

interface Pruning {
  readonly description: string
  readonly containers: boolean
  readonly images: boolean
}

/** A command `prune` for what a group of commands is about. */
export function pruneCommand(context: Context, { description, containers, images }: Pruning): Command {
  const command = new Command('prune')
    .description(description)
    .option('-f, --force', 'do not ask')
    .option('--filter <filter>', 'label=key[=value] or label!=key[=value] (repeatable: all must hold)', collect, [])
  if (images) command.option('-a, --all', 'also images with a tag')
  return command.action(async ({ all = false, force, filter }: Options, command: Command) => {
    const passes = labelFilter(filter)
    await using session = openSession(command, context)
    const unused = `${all ? 'all images' : 'images without a tag'} that no container was made of`
    const what = [...(containers ? ['all containers that have ended'] : []), ...(images ? [unused] : [])]
    if (!force) await confirm(session, what.join(', and '))
    const before = await usedBytes(session, { collect: false })
    const gone = {
      containers: containers ? await pruneContainers(session, passes) : [],
      images: images ? await pruneImages(session, { all, passes: filter.length > 0 ? passes : undefined }) : [],
    }
    const after = before === undefined ? undefined : await usedBytes(session, { collect: true })
    const freed = before === undefined || after === undefined ? undefined : before - after
    show(session, gone, freed)
  })
}

function show(session: Session, gone: { containers: string[]; images: string[] }, freed: bigint | undefined): void {
  const lines = Object.entries(gone).flatMap(([kind, names]) =>
    names.length > 0 ? [`Deleted ${kind}:`, ...names.map(printable), ''] : [],
  )
  if (freed !== undefined) lines.push(`Total reclaimed space: ${formatSize(freed > 0n ? freed : 0n)}`)
  if (session.json) printJson(session, { ...gone, reclaimedBytes: freed })
  else session.stdout.write(lines.map((line) => `${line}\n`).join(''))
}

/** What the namespace takes on disk, in bytes; undefined for who may not ask the collector. */
async function usedBytes(session: Session, { collect }: { readonly collect: boolean }): Promise<bigint | undefined> {
  const { namespace, signal } = session
  try {
    await using open = openCollector(session)
    if (collect) for await (const _ of open.collector.collect({ dryRun: false }, { signal }));
    const { uses } = await open.collector.usage({}, { signal })
    const own = uses.find(({ thing }) => thing?.kind === 'namespaces' && thing.namespace === namespace)
    return own ? own.contentBytes + own.snapshotBytes : 0n
  } catch (error) {
    if (isFault(error, 'unavailable') || isFault(error, 'permission-denied')) return undefined
    throw error
  }
}
