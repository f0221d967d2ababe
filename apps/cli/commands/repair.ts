import { type Difference, Difference_Outcome as Outcome, Repair } from '@gantry/api/gantry/owner/v1/owner_pb'
import { Fault, isFault } from '@gantry/model/fault'
import { clientOf, connect } from '@gantry/rpc/client'
import { Command } from 'commander'
import { ownerSocket } from '../collection/collector.ts'
import type { Context } from '../context.ts'
import { openSession, printJson, type Session } from '../session.ts'
import { printable } from '../text.ts'

/** Those that keep things on the disk or on the host. */
const OWNERS = ['content', 'snapshots', 'tasks'] as const

const WORDS = new Map<number, string>([
  [Outcome.FOUND, 'would be put right'],
  [Outcome.REPAIRED, 'put right'],
  [Outcome.LEFT, 'left'],
])

interface Found extends Difference {
  readonly owner: string
}

/** `gantry repair`: makes disk and host what the records say. */
export function createCommand(context: Context): Command {
  return new Command('repair')
    .description(
      'Removes what the disk and the host have and no record knows, in all namespaces, and tells which records name what is ' +
        'not there, and what to do. Safe while the node is at work. Asks content.sock, snapshots.sock and tasks.sock beside ' +
        'the socket of the node. Exit code 1 when something is left to be done by hand.',
    )
    .option('--dry-run', 'only tell')
    .action(async ({ dryRun = false }: { dryRun?: boolean }, command: Command) => {
      await using session = openSession(command, context)
      const found: Found[] = []
      const silent: string[] = []
      for (const owner of OWNERS) {
        try {
          for await (const difference of ask(session, owner, dryRun)) found.push({ ...difference, owner })
        } catch (error) {
          if (session.signal.aborted || !isFault(error)) throw error
          silent.push(`${owner}: ${error.message}`)
        }
      }
      if (session.json) printJson(session, found.map(toJson))
      else print(session, found)
      const left = found.filter(({ outcome }) => outcome === Outcome.LEFT).length
      if (silent.length > 0) throw new Fault('unavailable', `Not everything was looked at: ${silent.join('; ')}`)
      if (left > 0) process.exitCode = 1
    })
}

async function* ask({ address, signal }: Session, owner: string, dryRun: boolean): AsyncGenerator<Difference> {
  await using channel = connect(ownerSocket(address, owner))
  for await (const { differences } of clientOf(Repair, channel).repair({ dryRun }, { signal })) yield* differences
}

function print({ stdout }: Pick<Session, 'stdout'>, found: readonly Found[]): void {
  for (const { what, of, outcome, advice } of found) {
    stdout.write(`${printable(`${what}: ${of}: ${WORDS.get(outcome) ?? ''}`)}\n`)
    if (advice !== '') stdout.write(`  ${printable(advice)}\n`)
  }
  if (found.length === 0) stdout.write('Disk and host are as the records say\n')
}

function toJson({ owner, what, of, outcome, advice }: Found) {
  return { owner, what, of, outcome: WORDS.get(outcome), ...(advice !== '' && { advice }) }
}
