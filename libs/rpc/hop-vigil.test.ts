import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Hop, openHop } from './hop-client.ts'
import { serveHop } from './hop-server.ts'

const said = vi.hoisted((): string[][] => [])
vi.mock('./vigil.ts', () => ({
  createVigil() {
    const mine: string[] = []
    said.push(mine)
    const say = (what: string) => () => void mine.push(what)
    return { expect: say('expect'), came: say('came'), cease: say('cease') }
  },
}))

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gantry-hop-'))
  said.length = 0
})
afterEach(() => rm(folder, { recursive: true }))

/** So many calls at once over a new hop. @returns what the vigil of the caller was told, and that of the other end */
async function callAtOnce(calls: number): Promise<string[][]> {
  const address = join(folder, 'hop')
  await using _server = await serveHop(address, (_path, call) => void setTimeout(() => call.reply(Buffer.of()), 5))
  const { promise, resolve } = Promise.withResolvers<Hop>()
  using _hop = openHop(address, resolve, () => undefined)
  const hop = await promise
  const [none, headers] = [() => undefined, [[':path', '/nobody/Knows']] as const]
  const one = () =>
    new Promise<unknown>((reply) =>
      hop.open(headers, Buffer.of(), { data: none, room: none, reply, lost: () => reply(undefined), unseen: none }),
    )
  await Promise.all(Array.from({ length: calls }, one))
  return said
}

test('one call by itself is awaited by its caller, and the next one by the other end', async () => {
  expect(await callAtOnce(1)).toEqual([
    ['expect', 'came'],
    ['came', 'expect'],
  ])
})

test('nobody waits awake while several calls run', async () => {
  expect(await callAtOnce(2)).toEqual([
    ['expect', 'cease', 'came', 'came'],
    ['came', 'cease', 'expect'],
  ])
})
