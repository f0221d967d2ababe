/** Nothing grows with the number of processes and containers that ran: in short here, `npm run bench cycles` at length. */
import { expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { execMany, runMany, type Sizes, type Steady, sizesOf } from './harness/steady.ts'
import { onGantry } from './harness/target.ts'

onGantry((target) => {
  test.each([
    ['processes', execMany, 25],
    ['containers', runMany, 12],
  ] as const)(
    'CVE-2022-23471, CVE-2025-64329: descriptors, mounts, cgroups and FIFOs stay as many after %s have run',
    async (_name, many, count) => {
      const { dir, namespace } = target()
      const where: Steady = { node: target(), dir, namespace, image: await target().pull() }
      await many(where, 3) // connections and caches are made once
      const before = countsOf(sizesOf(where))

      await many(where, count)

      const grown = () =>
        Object.entries(countsOf(sizesOf(where))).filter(([name, value]) => value > (before[name] ?? 0) + SPARE)
      await until('all is let go of', () => grown().length === 0).catch(() => undefined)
      expect(grown()).toEqual([])
    },
  )
})

const SPARE = 3 // a connection may come and go; what leaks, leaks a multiple of this

function countsOf(sizes: Sizes): Sizes {
  return Object.fromEntries(Object.entries(sizes).filter(([name]) => !name.startsWith('MiB')))
}
