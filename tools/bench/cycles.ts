/**
 * Runs very many processes and containers, one after the other, and prints by how much each thing grows for a thousand of them: it has to
 * be nothing. Memory first grows to what the garbage collector leaves standing, so what counts of it is the second half.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { run } from '@gantry/e2e/harness/command'
import { startGantry } from '@gantry/e2e/harness/gantry'
import { makeImage } from '@gantry/e2e/harness/image'
import { lastingTraces, removeNamespaceCgroups } from '@gantry/e2e/harness/leaks'
import { startRegistry } from '@gantry/e2e/harness/registry'
import { execMany, runMany, type Sizes, sizesOf, slopes } from '@gantry/e2e/harness/steady'

const { values } = parseArgs({
  options: { execs: { type: 'string', default: '10000' }, cycles: { type: 'string', default: '1000' } },
})
const SAMPLES = 10
const NAMESPACE = `gantrybench-s${process.pid}`

const dir = mkdtempSync(join(tmpdir(), 'gb-'))
try {
  for (const folder of ['r', 's']) mkdirSync(join(dir, folder))
  await using registry = await startRegistry()
  await using node = await startGantry(join(dir, 'r'), join(dir, 's'))
  const image = await registry.push('busybox', 'bench', makeImage())
  await run(['ctr', '-a', node.address, '-n', NAMESPACE, 'images', 'pull', '--plain-http', image])
  const where = { node, dir, namespace: NAMESPACE, image }

  for (const [what, total, many] of [
    ['execs', Number(values.execs), execMany],
    ['runs and deletes', Number(values.cycles), runMany],
  ] as const) {
    const samples: Sizes[] = []
    const start = performance.now()
    await many(where, total / SAMPLES) // the first ones warm caches
    for (let sample = 0; sample < SAMPLES; sample++) {
      await many(where, total / SAMPLES)
      samples.push(sizesOf(where))
    }
    const ms = (performance.now() - start) / (total * (1 + 1 / SAMPLES))
    console.log(`\n${total} ${what}, ${ms.toFixed(1)} ms each; growth a thousand, and of the second half:`)
    const step = total / SAMPLES / 1000
    const late = new Map(slopes(samples.slice(SAMPLES / 2), step))
    for (const [name, slope] of slopes(samples, step)) {
      const values = samples.map((sizes) => sizes[name] ?? 0)
      const [first, most, last] = [values[0] ?? 0, Math.max(...values), values.at(-1) ?? 0].map((value) =>
        value.toFixed(1),
      )
      console.log(
        `  ${name.padEnd(28)} ${slope.toFixed(2).padStart(7)} ${late.get(name)?.toFixed(2).padStart(7)}  (first ${first}, most ${most}, last ${last})`,
      )
    }
  }
  console.log(
    `\nleft behind: ${(await lastingTraces({ dir, namespaces: [NAMESPACE], daemons: () => node.pids() })).length}`,
  )
} finally {
  removeNamespaceCgroups([NAMESPACE])
  rmSync(dir, { recursive: true, force: true })
}
