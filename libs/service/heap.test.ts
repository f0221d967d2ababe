import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'

/** Makes objects that live for a while, as those of calls do. Prints the MiB that the space of young objects takes in the end. */
const CALLS = `
const alive = []
for (let count = 0; count < 1_000_000; count++) alive[count % 20_000] = { count, text: 'x' + count }
const space = (await import('node:v8')).getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')
console.log(space.space_size / 1024 / 1024)`

/** Makes objects that die old. Prints the most MiB that the heap ever had. */
const OLD = `
const { getHeapStatistics } = await import('node:v8')
const alive = []
let most = 0
for (let count = 0; count < 3_000_000; count++) {
  alive[count % 400_000] = { count, text: 'x' + count }
  if (count % 1000 === 0) most = Math.max(most, getHeapStatistics().total_heap_size)
}
console.log(most / 1024 / 1024)`
const SMALL = `(await import(${JSON.stringify(new URL('./heap.ts', import.meta.url).href)})).keepHeapSmall()`

function printed(script: string, ...flags: string[]): number {
  return Number(execFileSync(process.execPath, [...flags, '--input-type=module', '-e', script], { encoding: 'utf8' }))
}

test('the space of young objects stays small when told so, and would have grown', () => {
  expect(printed(SMALL + CALLS)).toBeLessThan(printed(CALLS) / 2)
})

test('what died among the old does not lie there for long when told so, and would have', () => {
  const flag = '--max-semi-space-size=4'
  expect(printed(SMALL + OLD, flag)).toBeLessThan(printed(OLD, flag) * 0.8)
})
