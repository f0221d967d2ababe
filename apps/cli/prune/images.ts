import type { GantryClient } from '@gantry/client/client'
import type { Image } from '@gantry/client/images'
import { ignoring, isFault } from '@gantry/model/fault'
import type { Labels } from '@gantry/model/labels'
import { familiarName } from '../format/image-name.ts'
import type { Session } from '../session.ts'

/**
 * Removes the names of images that no container was made of, and what only they held.
 *
 * @param all also those with a tag
 * @returns the names that went
 */
export async function pruneImages(
  { client, signal }: Pick<Session, 'client' | 'signal'>,
  { all, passes }: { readonly all: boolean; readonly passes: ((labels: Labels) => boolean) | undefined },
): Promise<string[]> {
  const images = await client.images.list([], signal) // before the containers: none is made of an image that is not there yet
  const used = new Set((await client.containers.list([], signal)).map(({ image }) => image))
  const gone: string[] = []
  for (const image of unusedImages(images, used, all)) {
    if (passes && !passes(await labelsOf(client, image, signal))) continue
    const deleted = client.images.delete(image.name, {}, signal).then(() => true)
    if (await ignoring('not-found', deleted)) gone.push(image.name)
  }
  return gone
}

/**
 * What may go. A digest goes only with all tags of its image: others, such as the CRI of containerd, find an image by both.
 *
 * @param used names of images that containers were made of
 */
export function unusedImages(images: readonly Image[], used: ReadonlySet<string>, all: boolean): Image[] {
  const stays = ({ name }: Image) => used.has(name) || !(all || isByDigest(name))
  const kept = new Set(images.filter(stays).map(({ target }) => target.digest))
  return images.filter((image) => !stays(image) && !(isByDigest(image.name) && kept.has(image.target.digest)))
}

function isByDigest(name: string): boolean {
  return /(^|@)sha\d+:[0-9a-f]{64,}$/.test(name) && familiarName(name).tag === '<none>'
}

/** Those of its record, and over them what the image says itself. */
async function labelsOf(client: GantryClient, { name, labels }: Image, signal: AbortSignal): Promise<Labels> {
  try {
    return { ...labels, ...(await client.images.resolve(name, {}, signal)).config.config.labels }
  } catch (error) {
    if (!isFault(error, 'not-found')) throw error
    return labels // it is not there for this platform
  }
}
