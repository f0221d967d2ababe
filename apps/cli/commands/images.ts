import type { GantryClient } from '@gantry/client/client'
import type { Image } from '@gantry/client/images'
import { isFault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { formatAge } from '../format/age.ts'
import { familiarName } from '../format/image-name.ts'
import { formatSize } from '../format/size.ts'
import { table } from '../format/table.ts'
import { openSession, printJson } from '../session.ts'
import { printable } from '../text.ts'

/** `gantry images`: what is there. */
export function createCommand(context: Context): Command {
  return new Command('images')
    .description('Lists the images of the namespace.')
    .option('-q, --quiet', 'names only')
    .action(async ({ quiet }: { quiet?: boolean }, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal, stdout } = session
      const images = await client.images.list([], signal)
      if (quiet) return void stdout.write(images.map(({ name }) => `${printable(name)}\n`).join(''))
      const sizes = await Promise.all(images.map((image) => sizeOf(client, image, signal)))
      const rows = images.map((image, index) => ({ image, size: sizes[index] }))
      if (session.json) return printJson(session, rows.map(toJson))
      const heading = ['REPOSITORY', 'TAG', 'DIGEST', 'CREATED', 'SIZE']
      stdout.write(table(heading, rows.map(toRow)))
    })
}

interface Row {
  readonly image: Image
  readonly size: bigint | undefined
}

/** What the image of this host's platform weighs; undefined when parts of it are not there. */
async function sizeOf(client: GantryClient, { name }: Image, signal: AbortSignal): Promise<bigint | undefined> {
  try {
    return (await client.images.resolve(name, {}, signal)).size
  } catch (error) {
    if (isFault(error, 'unavailable') || isFault(error, 'cancelled')) throw error
    return undefined
  }
}

function toRow({ image, size }: Row): string[] {
  const { repository, tag } = familiarName(image.name)
  const digest = image.target.digest.replace(/^(\w+:[0-9a-f]{12}).*/, '$1')
  return [repository, tag, digest, formatAge(image.createdAt, new Date()), size === undefined ? '-' : formatSize(size)]
}

function toJson({ image, size }: Row): unknown {
  const { name, target, labels, createdAt, updatedAt } = image
  return { name, digest: target.digest, mediaType: target.mediaType, size, labels, createdAt, updatedAt }
}
