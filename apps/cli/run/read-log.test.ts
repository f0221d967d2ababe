import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readLog } from './read-log.ts'

const never = new AbortController().signal

let folder: string
let file: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-log-'))
  file = join(folder, 'out.log')
})

afterEach(() => rmSync(folder, { recursive: true }))

/** @param looks what happens before each look; after the last one nothing goes on */
async function read(tail: number | undefined, ...looks: (() => void)[]): Promise<string> {
  const goesOn = async () => {
    looks.shift()?.()
    return looks.length > 0
  }
  const chunks = await Array.fromAsync(readLog(file, { tail, goesOn }, never))
  return Buffer.concat(chunks).toString()
}

test.each([
  [undefined, 'one\ntwo\nthree\n'],
  [9, 'one\ntwo\nthree\n'],
  [3, 'one\ntwo\nthree\n'],
  [2, 'two\nthree\n'],
  [1, 'three\n'],
  [0, ''],
])('the last %s lines', async (tail, expected) => {
  writeFileSync(file, 'one\ntwo\nthree\n')

  expect(await read(tail)).toBe(expected)
})

test('a last line without an end counts, and an empty file has none', async () => {
  writeFileSync(file, 'one\ntwo')
  expect(await read(1)).toBe('two')

  writeFileSync(file, '')
  expect(await read(1)).toBe('')
})

test('the last lines are found in more than one piece', async () => {
  const long = 'x'.repeat(300_000)
  writeFileSync(file, `one\n${long}\n${long}\n`)

  expect(await read(2)).toBe(`${long}\n${long}\n`)
})

test('what comes after the last lines follows, and a file that was cut short is read from its start', async () => {
  writeFileSync(file, 'one\ntwo\n')
  const grow = () => appendFileSync(file, 'three\n')
  const rotate = () => {
    truncateSync(file)
    appendFileSync(file, 'four\n')
  }

  expect(await read(1, grow, rotate)).toBe('two\nthree\nfour\n')
})
