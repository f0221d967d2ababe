import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { expect, test } from 'vitest'
import type { Piece } from './answer.ts'
import { fetchInParts, type Range } from './parts.ts'

const WHOLE = { from: 0n, to: 17n * 1024n * 1024n }
const PIECE = { length: 1000 }
const signal = AbortSignal.timeout(120_000)
const ahead = { connections: 3, spare: () => ({ [Symbol.dispose]: () => undefined }), begin: async () => undefined }

/** Fetches in three parts, of which the last one fails when it has brought `pieces`; one piece is brought at once. */
async function fetchBroken(code: string, pieces: number): Promise<{ asked: Range[]; bytes: bigint }> {
  const asked: Range[] = []
  const cause = Object.assign(new Error('broken'), { code })
  async function* fetch(range: Range, stop: AbortSignal): AsyncGenerator<Piece> {
    asked.push(range)
    if (asked.length > 3) yield { length: Number(range.to - range.from) }
    else if (asked.length === 3) {
      for (let at = 0; at < pieces; at++) yield PIECE
      throw new Fault('unavailable', 'It is broken', { cause })
    } else
      for (;;) {
        yield PIECE // slowly enough for others to be started
        await sleep(1, undefined, { signal: stop })
      }
  }
  let bytes = 0n
  for await (const { length } of fetchInParts(WHOLE, { fetch, ahead }, signal)) bytes += BigInt(length)
  return { asked, bytes }
}

test.each([
  ['is refused a further connection', 'ECONNRESET', 0],
  ['is not answered on a further connection', 'UND_ERR_HEADERS_TIMEOUT', 0],
  ['loses a connection', 'ECONNRESET', 1],
])('who %s asks for the rest in one piece', async (_, code, pieces) => {
  const { asked, bytes } = await fetchBroken(code, pieces)

  expect(bytes).toBe(WHOLE.to)
  expect(asked).toHaveLength(4)
  expect(asked[3]?.from).toBeGreaterThan(0n)
  expect(asked[3]).toMatchObject({ to: WHOLE.to })
})

test('a registry that falls silent in the middle of a part is not waited for again in one piece', async () => {
  await expect(fetchBroken('UND_ERR_BODY_TIMEOUT', 1)).rejects.toThrow('It is broken')
})
