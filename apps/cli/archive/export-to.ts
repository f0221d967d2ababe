import { once } from 'node:events'
import { open, rename, rm, stat } from 'node:fs/promises'
import { Fault } from '@gantry/model/fault'
import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { imageName } from '../image-name.ts'
import { openSession } from '../session.ts'

export interface ExportWish {
  readonly platform?: string
  readonly allPlatforms?: boolean
  readonly skipManifestJson?: boolean
  readonly skipNonDistributable?: boolean
}

/**
 * Writes an archive of images. A file has its name only when it is complete.
 *
 * @param file `-` is standard output
 * @throws {Fault} `invalid-argument` when that is a terminal
 */
export async function exportTo(
  file: string,
  images: readonly string[],
  wish: ExportWish,
  { command, context }: { readonly command: Command; readonly context: Context },
): Promise<void> {
  const { stdout } = context
  if (file === '-' && stdout.isTTY)
    throw new Fault('invalid-argument', 'Cannot write an archive: standard output is a terminal, name a file with -o')
  await using session = openSession(command, context)
  const { client, signal } = session
  const names = await Promise.all(images.map((image) => imageName(client, image, signal)))
  const { platform, allPlatforms = false, skipManifestJson: skipManifest = false, skipNonDistributable = false } = wish
  const options = { ...(platform !== undefined && { platform }), allPlatforms, skipManifest, skipNonDistributable }
  const bytes = client.images.exportArchive(names, options, () => undefined, signal)
  if (file !== '-') return await writeFile(file, bytes)
  for await (const chunk of bytes) if (!stdout.write(chunk)) await once(stdout, 'drain', { signal })
}

async function writeFile(file: string, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const there = await stat(file).catch(() => undefined)
  if (there && !there.isFile()) return await fill(file, 'w', bytes) // a device or a pipe
  const partial = `${file}.${process.pid}.partial`
  try {
    await fill(partial, 'wx', bytes)
    await rename(partial, file)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
}

async function fill(file: string, flags: string, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  await using handle = await open(file, flags)
  for await (const chunk of bytes) await handle.writeFile(chunk)
}
