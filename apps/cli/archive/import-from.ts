import { open } from 'node:fs/promises'
import { Fault } from '@gantry/model/fault'
import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { openDisplay } from '../pull/show.ts'
import { openSession, printJson } from '../session.ts'
import { printable } from '../text.ts'

const CHUNK = 256 * 1024 // bytes read at once

export interface ImportWish {
  readonly platform?: string
  readonly allPlatforms?: boolean
  readonly baseName?: string
  readonly indexName?: string
  readonly digests?: boolean
  readonly compressBlobs?: boolean
  readonly unpack?: boolean
  readonly quiet?: boolean
}

/**
 * Stores the images of an archive and prints their names.
 *
 * @param file `-` is standard input
 * @throws {Fault} `invalid-argument` when that is a terminal
 */
export async function importFrom(
  file: string,
  wish: ImportWish,
  { command, context }: { readonly command: Command; readonly context: Context },
): Promise<void> {
  if (file === '-' && context.stdin.isTTY)
    throw new Fault('invalid-argument', 'Cannot read an archive: standard input is a terminal, name a file with -i')
  await using session = openSession(command, context)
  const bytes = file === '-' ? context.stdin : readFile(file)
  const names = await load(bytes, wish, session, context)
  if (session.json) return printJson(session, names)
  for (const name of names) context.stdout.write(`${wish.quiet ? '' : 'Loaded image: '}${printable(name)}\n`)
  if (names.length === 0)
    context.stderr.write('gantry: No image of the archive has a name: give one with --index-name or --digests\n')
}

async function* readFile(file: string): AsyncGenerator<Uint8Array> {
  await using handle = await open(file).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Fault('invalid-argument', `Cannot read the archive: ${why}`, { cause })
  })
  for (;;) {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(CHUNK), 0, CHUNK)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
  }
}

async function load(
  bytes: AsyncIterable<Uint8Array>,
  wish: ImportWish,
  { client, signal, json }: ReturnType<typeof openSession>,
  { stdout }: Context,
): Promise<string[]> {
  using display = wish.quiet || json || !stdout.isTTY ? undefined : openDisplay(stdout)
  const { platform, baseName, indexName, digests, compressBlobs, unpack, allPlatforms } = wish
  const options = {
    ...(platform !== undefined && { platform }),
    ...(baseName !== undefined && { prefix: baseName, prefixOnly: true }),
    ...(indexName !== undefined && { indexName }),
    allPlatforms: allPlatforms ?? false,
    digests: digests ?? false,
    compress: compressBlobs ?? false,
    unpack: unpack ?? true,
  }
  return await client.images.importArchive(bytes, options, (report) => display?.update(report), signal)
}
