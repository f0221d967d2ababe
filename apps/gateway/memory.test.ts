import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'

/** Forgets 240 MB between small things that live on. Prints the MiB that the process has, after what `then` waits for. */
const burst = (begin: string, then: string): string => `
${begin}
const mib = () => process.memoryUsage.rss() / 1024 / 1024
const alive = []
let dead = []
await new Promise((resolve) => setTimeout(resolve, 100))
for (let count = 0; count < 6000; count++) {
  dead.push(Buffer.allocUnsafeSlow(40_000).fill(1))
  alive.push(Buffer.allocUnsafeSlow(100))
}
dead = []
${then}
console.log(mib(), alive.length)`

const GIVES = `(await import(${JSON.stringify(new URL('./memory.ts', import.meta.url).href)})).giveMemoryBack(30)`
const WAITS = 'for (let n = 0; mib() > 200 && n < 1000; n++) await new Promise((resolve) => setTimeout(resolve, 20))'

function printed(script: string): number {
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  return Number.parseFloat(printed)
}

test('memory that a burst took is given back when told so, and would not have been', () => {
  expect(printed(burst(GIVES, WAITS))).toBeLessThan(200)
  expect(printed(burst('', 'await new Promise((resolve) => setTimeout(resolve, 300))'))).toBeGreaterThan(240)
})
