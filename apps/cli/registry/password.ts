import { StringDecoder } from 'node:string_decoder'
import { Fault } from '@gantry/model/fault'
import type { Context } from '../context.ts'

const MAX_SECRET_BYTES = 64 * 1024

/** The whole input without the end of its line. @throws {Fault} `invalid-argument` when it is empty or too long */
export async function readPassword(input: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of input) {
    size += chunk.length
    if (size > MAX_SECRET_BYTES) throw new Fault('invalid-argument', 'Cannot log in: the password is too long')
    chunks.push(chunk)
  }
  const text = Buffer.concat(chunks).toString()
  return nonEmpty(text.replace(/\r?\n$/, ''))
}

/**
 * Asks for a password on the terminal, which shows nothing of it and is given back as it was.
 *
 * @throws {Fault} `invalid-argument` without a terminal, `cancelled` for Ctrl-C
 */
export async function askPassword({ stdin, stderr }: Pick<Context, 'stdin' | 'stderr'>): Promise<string> {
  if (!stdin.isTTY)
    throw new Fault('invalid-argument', 'Cannot ask for the password: the input is no terminal; use --password-stdin')
  const keys = stdin[Symbol.asyncIterator]() // not for await: what ends the terminal cannot restore it
  const decoder = new StringDecoder()
  stdin.setRawMode(true)
  stderr.write('Password: ')
  try {
    for (let line: Line = { text: '', over: false }; ; ) {
      const next: IteratorResult<Buffer> = await keys.next()
      line = next.done ? { ...line, over: true } : type(line, decoder.write(next.value))
      if (line.over) return nonEmpty(line.text)
    }
  } finally {
    stdin.setRawMode(false)
    stderr.write('\n')
  }
}

interface Line {
  readonly text: string
  readonly over: boolean
}

/** What keys do on a line of a terminal. Those that would move on it do nothing: nobody would see where they are. */
function type(line: Line, keys: string): Line {
  let { text } = line
  for (const key of keys.replace(ESCAPE_SEQUENCES, '')) {
    if (key === '\x03') throw new Fault('cancelled', 'Cannot log in: interrupted')
    if (key === '\r' || key === '\n' || key === '\x04') return { text, over: true }
    if (key === '\x7f' || key === '\b') text = [...text].slice(0, -1).join('')
    else if (key === '\x15') text = ''
    else if (key >= ' ') text += key
    if (text.length > MAX_SECRET_BYTES) throw new Fault('invalid-argument', 'Cannot log in: the password is too long')
  }
  return { text, over: false }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const ESCAPE_SEQUENCES = /\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.)/g

function nonEmpty(secret: string): string {
  if (secret === '') throw new Fault('invalid-argument', 'Cannot log in: the password is empty')
  return secret
}
