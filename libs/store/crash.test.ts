import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, expect, test } from 'vitest'
import { jsonCodec } from './codec.ts'
import { openStore } from './store.ts'

const folder = mkdtempSync(join(tmpdir(), 'gantry-crash-'))
afterAll(() => rmSync(folder, { recursive: true }))
const program = join(import.meta.dirname, 'crash.fixture.ts')

test('a killed process loses nothing it acknowledged and leaves no half transaction', async () => {
  let acknowledged = 0
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, [program, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
    while (output === '') await sleep(5)

    await sleep(20 + Math.random() * 150)
    child.kill('SIGKILL')
    await once(child, 'close')

    const numbers = output.split('\n').slice(0, -1).map(Number)
    expect(Math.min(...numbers)).toBeGreaterThan(acknowledged)
    acknowledged = Math.max(...numbers)
    await using store = openStore(folder)
    const count = store.table('counter', jsonCodec<number>()).get(['n']) ?? 0
    const pairs = store.table('pairs', jsonCodec<number>())
    const sides = ['left', 'right'].map((side) =>
      Array.from(pairs.list({ prefix: [side] }), ({ value }) => value).sort((a, b) => a - b),
    )
    expect(count).toBeGreaterThanOrEqual(acknowledged)
    expect(sides[0]).toEqual(Array.from({ length: count }, (_, i) => i + 1))
    expect(sides[1]).toEqual(sides[0])
  }
}, 30_000)
