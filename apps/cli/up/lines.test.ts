import { PassThrough } from 'node:stream'
import { finished } from 'node:stream/promises'
import { expect, test } from 'vitest'
import { readLines } from './lines.ts'

async function linesOf(...chunks: (string | Buffer)[]): Promise<string[]> {
  const stream = new PassThrough()
  const lines: string[] = []
  readLines(stream, (line) => lines.push(line))
  for (const chunk of chunks) stream.write(chunk)
  await finished(stream.end())
  return lines
}

test('lines are put together from pieces, letters too', async () => {
  const euro = Buffer.from('€')

  expect(await linesOf('a', 'b\nc\n', euro.subarray(0, 1), euro.subarray(1))).toEqual(['ab', 'c', '€'])
})

test('a line without an end is shown in pieces', async () => {
  const [first, second] = await linesOf('x'.repeat(70_000))

  expect([first?.length, second?.length]).toEqual([65_536, 70_000 - 65_536])
})
