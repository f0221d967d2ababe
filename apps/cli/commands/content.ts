import { dirname, join } from 'node:path'
import type { Info } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Blobs, VerifyResponse_Outcome as Outcome, type VerifyResponse } from '@gantry/api/gantry/content/v1/blobs_pb'
import { clientOf, connect } from '@gantry/rpc/client'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { formatSize, parseSize } from '../format/size.ts'
import { table } from '../format/table.ts'
import { openSession, printJson, type Session } from '../session.ts'
import { printable } from '../text.ts'

/** `gantry content`: the blobs below images. */
export function createCommand(context: Context): Command {
  const content = new Command('content').description('Looks after blobs: manifests, configs and layers.')
  content
    .command('ls')
    .description('Lists the blobs of the namespace.')
    .option('-q, --quiet', 'digests only')
    .action(async ({ quiet }: { quiet?: boolean }, command: Command) => {
      await using session = openSession(command, context)
      const infos = await listInfos(session)
      if (quiet) return void session.stdout.write(infos.map(({ digest }) => `${digest}\n`).join(''))
      if (session.json)
        return printJson(
          session,
          infos.map(({ digest, size, labels }) => ({ digest, size, labels })),
        )
      const rows = infos.map(({ digest, size, labels }) => [digest, formatSize(size), labelsOf(labels)])
      session.stdout.write(table(['DIGEST', 'SIZE', 'LABELS'], rows))
    })
  content
    .command('verify')
    .description(
      'Hashes blobs of all namespaces again. What rotted is moved aside and comes again with the next pull. ' +
        'Asks content.sock beside the socket of the node. Exit code 1 when something had rotted or was missing.',
    )
    .argument('[digest...]', 'only these')
    .option('--rate <bytes>', 'read at most so much a second, such as 50m')
    .action(async (digests: string[], { rate }: { rate?: string }, command: Command) => {
      await using session = openSession(command, context)
      const bytesPerSecond = rate === undefined ? 0n : parseSize(rate)
      const found = await verify(session, { digests, bytesPerSecond })
      if (found.bad > 0) process.exitCode = 1
    })
  return content
}

async function listInfos({ client, signal }: Session): Promise<Info[]> {
  const infos = []
  for await (const { info } of client.services.content.list({}, client.call(signal))) infos.push(...info)
  return infos
}

async function verify(session: Session, request: { digests: string[]; bytesPerSecond: bigint }) {
  const { address, stdout, stderr, json, signal } = session
  await using channel = connect(join(dirname(address), 'content.sock')) // not for clients of the node's socket
  const blobs = { checked: 0, bad: 0 }
  const rotten: VerifyResponse[] = []
  for await (const step of clientOf(Blobs, channel).verify(request, { signal })) {
    if (stderr.isTTY && !json) stderr.write(`\r${progressOf(step)}\x1b[K`)
    if (step.outcome === Outcome.UNSPECIFIED) continue
    blobs.checked++
    if (step.outcome === Outcome.SOUND) continue
    blobs.bad++
    rotten.push(step)
    if (!json) stdout.write(`${lineOf(step)}\n`)
  }
  if (stderr.isTTY && !json) stderr.write('\r\x1b[K')
  if (json) printJson(session, { ...blobs, rotten: rotten.map(toJson) })
  else stdout.write(`${blobs.checked} blobs checked, ${blobs.bad} taken away\n`)
  return blobs
}

function labelsOf(labels: Info['labels']): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`)
  return pairs.sort().join(',') || '-'
}

function progressOf({ bytesDone, bytesTotal }: VerifyResponse): string {
  return `${formatSize(bytesDone)} of ${formatSize(bytesTotal)} verified`
}

function lineOf({ digest, outcome, reason, path, namespaces }: VerifyResponse): string {
  const what = outcome === Outcome.MISSING ? 'missing' : `rotten, moved to ${path}`
  const whose = namespaces.length > 0 ? `taken from ${namespaces.join(', ')}` : 'nobody had it'
  return printable(`${digest}: ${what}: ${reason} (${whose})`)
}

function toJson({ digest, outcome, reason, path, namespaces }: VerifyResponse) {
  return { digest, missing: outcome === Outcome.MISSING, reason, path, namespaces }
}
