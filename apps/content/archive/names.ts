import type { ImageReference, ImageStore } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import type { Descriptor } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import type { ImageRecord } from '../images.ts'
import { recordsFor } from '../pull/image-names.ts'

/** A full image name on a descriptor of an index; containerd's. */
export const NAME_ANNOTATION = 'io.containerd.image.name'
/** A tag, or a full name, on a descriptor of an index; OCI's. */
export const TAG_ANNOTATION = 'org.opencontainers.image.ref.name'

const MAX_NAME = 1024 // characters
const PRINTABLE = /^[\x21-\x7e]+$/

/**
 * The records that an import makes: the archive's whole index under the name that the client gives, and each image in it
 * under what the archive calls it, as far as the client's prefixes let it. An image without a name is left out. They are
 * made in this order, each complete in itself: the name of the whole comes last, when all that it stands for has its name.
 *
 * @throws {Fault} `invalid-argument` when the archive has a name that no image may have
 * @see behaviour facts, 15.2
 */
export function importedRecords(store: ImageStore, index: Descriptor, images: readonly Descriptor[]): ImageRecord[] {
  const plain = store.extraReferences.filter(({ isPrefix }) => !isPrefix)
  const prefixes = store.extraReferences.filter(({ isPrefix }) => isPrefix)
  const whole = store.name === '' && plain.length === 0 ? [] : recordsFor({ ...store, extraReferences: plain }, index)
  const named = images.flatMap((target) =>
    prefixes.flatMap((prefix) =>
      namesOf(target, prefix).map((name) => ({ name: checked(name), labels: store.labels, target })),
    ),
  )
  const taken = new Map(named.map((record) => [record.name, record]))
  return [...taken.values(), ...whole.filter(({ name }) => !taken.has(name))]
}

function namesOf({ annotations = {}, digest }: Descriptor, prefix: ImageReference): string[] {
  const name = nameOf(annotations, prefix)
  const byDigest =
    prefix.addDigest && !(name !== undefined && prefix.skipNamedDigest) ? [`${prefix.name}@${digest}`] : []
  return name === undefined ? byDigest : [name, ...byDigest]
}

function nameOf(annotations: Readonly<Record<string, string>>, prefix: ImageReference): string | undefined {
  const full = annotations[NAME_ANNOTATION] ?? ''
  if (full !== '') return translate(full, prefix) === full ? full : undefined
  const tag = annotations[TAG_ANNOTATION] ?? ''
  return tag === '' ? undefined : translate(tag, prefix)
}

/** A tag gets the prefix before it. A full name stays as it is where it may, and is dropped where it may not. */
function translate(text: string, { name: prefix, allowOverwrite }: ImageReference): string | undefined {
  if (prefix === '') return undefined
  if (!/[/:@]/.test(text)) return `${prefix}:${text}`
  return allowOverwrite || isBelow(text, prefix) ? text : undefined
}

function isBelow(text: string, prefix: string): boolean {
  return text === prefix || (text.startsWith(prefix) && /[/:@]/.test(text.charAt(prefix.length)))
}

function checked(name: string): string {
  if (name.length <= MAX_NAME && PRINTABLE.test(name)) return name
  throw new Fault(
    'invalid-argument',
    `Cannot import image ${JSON.stringify(name.slice(0, 128))}: the name is malformed`,
  )
}
