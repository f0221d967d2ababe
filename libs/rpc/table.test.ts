import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { Table } from './table.ts'

/** Has 64 things at a time, which come and go after the table itself is old. Prints how many MiB V8 then has in old space. */
const CHURN = `
  const old = () => v8.getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space').space_used_size / 1024 / 1024
  for (let count = 0; count < 20_000; count++) globalThis.last = new Array(100).fill(count)
  const before = old()
  for (let id = 0; id < 20_000; id++) {
    add(id, new Array(100).fill(id))
    if (id >= 64) remove(id - 64)
  }
  console.log(old() - before)`
const BY_MAP =
  'const things = new Map(); const add = (id, it) => things.set(id, it), remove = (id) => things.delete(id);'
const BY_TABLE = `import { Table } from ${JSON.stringify(import.meta.resolve('./table.ts'))}
  const things = new Table(); const add = (id, it) => things.add(id, it), remove = (id) => things.delete(id);`

function oldAfter(script: string): number {
  const flags = ['--max-semi-space-size=2', '--input-type=module', '--eval', `import v8 from 'node:v8'; ${script}`]
  return Number(execFileSync(process.execPath, flags, { encoding: 'utf8' }))
}

test('what has left a table does not grow old in memory, as it would with a Map', () => {
  expect(oldAfter(BY_TABLE + CHURN)).toBeLessThan(oldAfter(BY_MAP + CHURN) / 4)
})

test('a table knows what is in it by its number', () => {
  const table = new Table<string>()
  table.add(4_294_967_295, 'last')
  table.add(7, 'a')
  table.add(3, 'b')

  expect(table.delete(3)).toBe(true)
  expect(table.delete(3)).toBe(false)
  expect(table.size).toBe(2)
  expect(table.get(7)).toBe('a')
  expect(table.get(3)).toBeUndefined()
  expect(table.entries()).toEqual([
    [7, 'a'],
    [4_294_967_295, 'last'],
  ])
})
