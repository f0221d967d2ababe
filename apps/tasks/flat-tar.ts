import { Fault } from '@gantry/model/fault'

const BLOCK = 512
const MAX_EXTENSION = 64 * 1024 // bytes of a header of PAX: it is held in memory

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
 * @see https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
 */
export async function* readFlatTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<FlatFile> {
  await using input = createInput(source)
  let extension = new Map<string, string>() // of the file that comes next
  for (;;) {
    const header = await input.take(BLOCK)
    if (header.every((byte) => byte === 0)) return // the end; who reads on finds nothing but padding
    checkSum(header)
    const type = String.fromCharCode(header[156] ?? 0)
    const size = sizeOf(extension.get('size'), header)
    if (type === 'x' || type === 'g') {
      if (size > MAX_EXTENSION) throw malformed('a header is too long')
      const records = parseRecords(await input.take(size))
      if (type === 'x') extension = records
      await input.take(padding(size))
      continue
    }
    const name = (extension.get('path') ?? nameOf(header)).replace(/^(\.\/)+/, '')
    extension = new Map()
    if (type === '5' && (name === '' || name === '.')) continue // the folder that was packed
    if (type !== '0' && type !== '\0') throw malformed(`"${name}" is no plain file`)
    if (!isPlainName(name)) throw malformed(`"${name}" is no plain name`)
    yield { name, bytes: input.pass(size) }
    if (input.left() > 0) throw new Error('A file of an archive has not been read')
    await input.take(padding(size))
  }
}

function createInput(source: AsyncIterable<Uint8Array>) {
  const chunks = source[Symbol.asyncIterator]()
  let rest: Uint8Array = new Uint8Array()
  let left = 0
  const next = async (most: number): Promise<Uint8Array> => {
    while (rest.length === 0) {
      const { value, done } = await chunks.next()
      if (done) throw malformed('it ends early')
      rest = value
    }
    const piece = rest.subarray(0, most)
    rest = rest.subarray(piece.length)
    return piece
  }
  return {
    left: () => left,
    async take(size: number): Promise<Buffer> {
      const pieces: Uint8Array[] = []
      for (let missing = size; missing > 0; ) {
        const piece = await next(missing)
        pieces.push(piece)
        missing -= piece.length
      }
      return Buffer.concat(pieces)
    },
    pass(size: number): AsyncIterable<Uint8Array> {
      left = size
      return (async function* () {
        while (left > 0) {
          const piece = await next(left)
          left -= piece.length
          yield piece
        }
      })()
    },
    async [Symbol.asyncDispose]() {
      await chunks.return?.()
    },
  }
}

function padding(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK
}

function checkSum(header: Buffer): void {
  const wanted = Number.parseInt(textOf(header.subarray(148, 156)).trim(), 8)
  const sum = header.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 32 : byte), 0)
  if (sum !== wanted) throw malformed('a header is damaged')
}

/** Octal, or where the first bit is set a number in binary. */
function sizeOf(extended: string | undefined, header: Buffer): number {
  const field = header.subarray(124, 136)
  const isBinary = ((field[0] ?? 0) & 0x80) !== 0
  const text = extended ?? textOf(field).trim()
  const pattern = extended === undefined ? /^[0-7]*$/ : /^\d+$/
  if (!isBinary && !pattern.test(text)) throw malformed('a size makes no sense')
  const size =
    isBinary && extended === undefined
      ? field.subarray(1).reduce((total, byte) => total * 256 + byte, (field[0] ?? 0) & 0x7f)
      : Number.parseInt(text || '0', extended === undefined ? 8 : 10)
  if (!Number.isSafeInteger(size)) throw malformed('a size makes no sense')
  return size
}

function nameOf(header: Buffer): string {
  const prefix = textOf(header.subarray(257, 262)) === 'ustar' ? textOf(header.subarray(345, 500)) : ''
  const name = textOf(header.subarray(0, 100))
  return prefix === '' ? name : `${prefix}/${name}`
}

/** Records such as `12 path=name\n`, their length first. */
function parseRecords(bytes: Buffer): Map<string, string> {
  const records = new Map<string, string>()
  for (let rest = bytes; rest.length > 0; ) {
    const [, digits = '', key = ''] = /^(\d{1,5}) ([^=\n]+)=/.exec(rest.toString('latin1', 0, 256)) ?? []
    const length = Number(digits)
    const start = digits.length + key.length + 2
    if (length <= start || length > rest.length) throw malformed('a header is damaged')
    records.set(key, rest.toString('utf8', start, length - 1))
    rest = rest.subarray(length)
  }
  return records
}

function isPlainName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name) && Buffer.byteLength(name) <= 255
}

function textOf(field: Buffer): string {
  const end = field.indexOf(0)
  return field.toString('utf8', 0, end < 0 ? field.length : end)
}

function malformed(what: string): Fault {
  return new Fault('invalid-argument', `Cannot unpack the checkpoint: ${what.slice(0, 400)}`)
}
