import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createNats } from './nats.ts'

test('the server keeps its port once it was reached, and its files are for us alone', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-nats-'))
  const state = join(dir, 's')
  const nats = createNats({ root: join(dir, 'r'), state })

  expect(await nats.part.command()).toEqual(['nats-server', '-c', join(state, 'nats', 'nats.conf')])
  const url = readFileSync(join(state, 'nats', 'url'), 'utf8')
  nats.settle()
  await nats.part.command()

  const token = readFileSync(join(state, 'nats', 'token'), 'utf8')
  expect(token).toMatch(/^[0-9a-f]{64}$/)
  expect(readFileSync(join(state, 'nats', 'url'), 'utf8')).toBe(url)
  expect(url).toBe(`nats://${token}@127.0.0.1:${nats.port}\n`)
  expect(readFileSync(join(state, 'nats', 'nats.conf'), 'utf8')).toContain(`listen: "127.0.0.1:${nats.port}"`)
  for (const name of ['nats.conf', 'token', 'url']) expect(statSync(join(state, 'nats', name)).mode & 0o777).toBe(0o600)
  nats[Symbol.dispose]()
  rmSync(dir, { recursive: true })
})
