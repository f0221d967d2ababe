import { readTar } from '@gantry/client/tar'
import { Fault } from '@gantry/model/fault'

const MAX_NAME = 255 // bytes

/** A file in an archive; `bytes` has to be read to its end before the next one comes. */
export interface FlatFile {
  readonly name: string
  readonly bytes: AsyncIterable<Uint8Array>
}

/**
 * Reads an archive of plain files without folders, such as criu's images are packed in. Nothing else is let through: no link, no
 * device, no name that leads anywhere, so what is made of it can only lie where it is put.
 *
 * @throws {Fault} `invalid-argument` for an archive that holds anything else, or ends early
 */
export async function* readFlatTar(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<FlatFile> {
  for await (const { header, body } of readTar(source, signal)) {
    const name = header.name.replace(/^(\.\/)+/, '')
    if (header.type === 'directory' && (name === '' || name === '.')) continue // the folder that was packed
    if (header.type !== 'file') throw malformed(name, 'no plain file')
    if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name) || Buffer.byteLength(name) > MAX_NAME)
      throw malformed(name, 'no plain name')
    if (!Number.isSafeInteger(header.size) || (header.size ?? 0) < 0)
      throw malformed(name, 'of no size that makes sense')
    yield { name, bytes: body }
  }
}

function malformed(name: string, what: string): Fault {
  return new Fault('invalid-argument', `Cannot unpack the checkpoint: "${name.slice(0, MAX_NAME)}" is ${what}`)
}
