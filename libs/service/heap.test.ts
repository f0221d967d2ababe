import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'

/** Makes objects that live for a while, as those of calls do. Prints the MiB that the space of young objects takes in the end. */
const CALLS = `
const alive = []
for (let count = 0; count < 1_000_000; count++) alive[count % 20_000] = { count, text: 'x' + count }
const space = (await import('node:v8')).getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')
console.log(space.space_size / 1024 / 1024)`
const SMALL = `(await import(${JSON.stringify(new URL('./heap.ts', import.meta.url).href)})).keepHeapSmall()`

function youngSpaceAfter(script: string): number {
  return Number(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }))
}

test('the space of young objects stays small when told so, and would have grown', () => {
  expect(youngSpaceAfter(SMALL + CALLS)).toBeLessThan(youngSpaceAfter(CALLS) / 2)
})
