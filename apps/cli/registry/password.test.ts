import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import type { Context } from '../context.ts'
import { askPassword, readPassword } from './password.ts'

function terminal() {
  const modes: boolean[] = []
  const shown: string[] = []
  const keys = new PassThrough()
  const stdin = Object.assign(keys, { isTTY: true, setRawMode: (raw: boolean) => modes.push(raw) })
  const context = { stdin, stderr: { write: (text: string) => shown.push(text) } } as unknown as Context
  return { keys, modes, shown, asked: askPassword(context) }
}

test.each([
  ['enter ends it', ['secret\r'], 'secret'],
  [
    'typed slowly, a letter in two bytes',
    ['p', Buffer.from('\u00e4').subarray(0, 1), Buffer.from('\u00e4').subarray(1), '\n'],
    'p\u00e4',
  ],
  ['what is rubbed out is gone', ['sex\x7fcret\x7f\bet\r'], 'secret'],
  ['a new beginning', ['wrong\x15secret\r'], 'secret'],
  ['arrows and function keys are no letters', ['sec\x1b[D\x1bOP\x1b[15~ret\t\r'], 'secret'],
  ['a line that was pasted with the next', ['secret\nmore'], 'secret'],
])('%s', async (_what, typed, secret) => {
  const { keys, modes, shown, asked } = terminal()
  for (const part of typed) keys.write(part)

  expect(await asked).toBe(secret)
  expect(modes).toEqual([true, false])
  expect(shown).toEqual(['Password: ', '\n'])
})

test.each([
  ['\x03', 'cancelled'],
  ['\r', 'invalid-argument'],
  ['\x04', 'invalid-argument'],
  ['a'.repeat(70_000), 'invalid-argument'],
])('the terminal is given back when nothing comes of it (%#)', async (typed, code) => {
  const { keys, modes, asked } = terminal()
  keys.write(typed)

  await expect(asked).rejects.toMatchObject({ code })
  expect(modes).toEqual([true, false])
})

test('without a terminal it says what to do', async () => {
  const context = { stdin: Object.assign(new PassThrough(), { isTTY: false }) } as unknown as Context

  await expect(askPassword(context)).rejects.toThrow('the input is no terminal; use --password-stdin')
})

test('an input is a password up to the end of its line', async () => {
  const input = async function* (text: string) {
    yield Buffer.from(text)
  }

  expect(await readPassword(input('pass word\r\n'))).toBe('pass word')
  await expect(readPassword(input('\n'))).rejects.toThrow('the password is empty')
})
