import { randomBytes } from 'node:crypto'
import { Fault, ignoring } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { shortId } from '../find-container.ts'
import { formatAge } from '../format/age.ts'
import { table } from '../format/table.ts'
import { collect } from '../run/collecting.ts'
import { isShared } from '../run/isolation.ts'
import { addNetworkOptions, isMade, type NetworkOptions, networkOf } from '../run/network-options.ts'
import { removeContainer } from '../run/remove-container.ts'
import { openSession, printJson, type Session } from '../session.ts'
import { parseLabel } from './namespaces.ts'

interface RunOptions extends NetworkOptions {
  readonly name?: string
  readonly label: readonly string[]
  readonly hostname?: string
  readonly sharePids?: boolean
}

/** `gantry sandbox`: groups of containers that share namespaces. */
export function createCommand(context: Context): Command {
  const sandbox = new Command('sandbox').description('Runs, lists and removes groups of containers.')
  addNetworkOptions(sandbox.command('run').description('start one; containers join it by "gantry run --sandbox"'))
    .option('--name <name>', 'instead of a random id')
    .option('-l, --label <label>', 'key=value (repeatable)', collect, [])
    .option('-h, --hostname <name>', 'of all its containers')
    .option('--share-pids', 'its containers see the processes of each other')
    .helpOption('--help', 'display help for command')
    .action((options: RunOptions, command: Command) => run(options, command, context))
  sandbox
    .command('ls', { isDefault: true })
    .description('list all')
    .action((_options: unknown, command: Command) => list(command, context))
  sandbox
    .command('rm')
    .description('end and remove some')
    .argument('<name...>')
    .option('-f, --force', 'with all their containers')
    .action(async (names: string[], { force = false }: { force?: boolean }, command: Command) => {
      await using session = openSession(command, context)
      await each(names, session, (name) => remove(session, name, force))
    })
  return sandbox
}

async function run(options: RunOptions, command: Command, context: Context): Promise<void> {
  await using session = openSession(command, context)
  const { name, hostname, network, sharePids } = options
  const id = name ?? randomBytes(32).toString('hex')
  const attach = networkOf(options)
  if (isShared(network))
    throw new Fault(
      'invalid-argument',
      'Cannot use --net container: for a sandbox: choose bridge, host, none or ns:/path',
    )
  const { pid } = await session.client.sandboxes.run(
    {
      ...{ id, labels: Object.fromEntries(options.label.map(parseLabel)) },
      ...(hostname !== undefined && { hostname }),
      ...(sharePids && { sharePids }),
      ...(network !== undefined && !isMade(network) && { network }),
      ...(attach && { attach }),
    },
    session.signal,
  )
  if (session.json) printJson(session, { id, pid })
  else session.stdout.write(`${id}\n`)
}

async function list(command: Command, context: Context): Promise<void> {
  await using session = openSession(command, context)
  const { client, signal } = session
  const [sandboxes, containers] = await Promise.all([client.sandboxes.list(signal), client.containers.list([], signal)])
  const rows = sandboxes.map((sandbox) => ({
    ...sandbox,
    containers: containers.filter((container) => container.sandbox === sandbox.id).map(({ id }) => id),
  }))
  if (session.json) return printJson(session, rows)
  const now = new Date()
  const cells = rows.map(({ id, ready, createdAt, pid, containers }) => [
    ...[shortId(id), ready ? 'Ready' : 'Not ready', formatAge(createdAt, now), ready ? String(pid) : ''],
    containers.map(shortId).join(','),
  ])
  session.stdout.write(table(['SANDBOX ID', 'STATUS', 'CREATED', 'PID', 'CONTAINERS'], cells))
}

async function remove(session: Session, name: string, force: boolean): Promise<void> {
  const { client, signal } = session
  const id = await findSandbox(session, name)
  const containers = (await client.containers.list([], signal)).filter(({ sandbox }) => sandbox === id)
  if (containers.length > 0 && !force)
    throw new Fault(
      'failed-precondition',
      `Cannot remove sandbox "${name}": ${containers.map((each) => shortId(each.id)).join(', ')} in it; remove that first, or use -f`,
    )
  for (const container of containers) await ignoring('not-found', removeContainer(client, container, signal))
  await client.sandboxes.remove(id, 0, signal)
  session.stdout.write(`${name}\n`)
}

/** By its name, or the beginning of its id when no other begins like it. */
async function findSandbox({ client, signal, namespace }: Session, name: string): Promise<string> {
  const sandboxes = await client.sandboxes.list(signal)
  const found = sandboxes.filter(({ id }) => id === name || (name !== '' && id.startsWith(name)))
  const exact = found.find(({ id }) => id === name) ?? found[0]
  if (exact && (found.length === 1 || exact.id === name)) return exact.id
  if (exact) throw new Fault('invalid-argument', `Cannot choose sandbox "${name}": several match`)
  throw new Fault('not-found', `Cannot find sandbox "${name}": namespace ${namespace} has none of that name`)
}
