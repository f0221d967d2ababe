/** The facts to the letter, rule by rule, by the API itself; what Debian's containerd knows of them is checked with it too. */
import { inspect } from 'node:util'
import { expect, inject, test } from 'vitest'
import { clear } from './fuzz/clear.ts'
import { onEveryTarget } from './harness/target.ts'
import { COMMON } from './letter/common.ts'
import { CONTENT } from './letter/content.ts'
import { LEASES } from './letter/leases.ts'
import { MASKS } from './letter/masks.ts'
import { openNode } from './letter/node.ts'
import { RECORDS } from './letter/records.ts'
import { SNAPSHOTS } from './letter/snapshots.ts'
import { TASKS } from './letter/tasks.ts'

const PARTS = {
  'names and headers': COMMON,
  'filters and masks': MASKS,
  records: RECORDS,
  leases: LEASES,
  content: CONTENT,
  snapshots: SNAPSHOTS,
  'tasks and events': TASKS,
}

onEveryTarget((target) => {
  test.each(Object.entries(PARTS))('the rules of %s', { timeout: 120_000 }, async (_, rules) => {
    await target().pull()
    await using node = openNode(target(), target().anotherNamespace(), inject('image'))
    const broken: Record<string, string> = {}
    for (const { rule, later, check } of rules) {
      if (later && target().name === 'containerd') continue
      await check(node).catch((error: unknown) => {
        broken[rule] = told(error)
      })
      if (rule in broken) await clear(target().address)
    }
    expect(broken).toEqual({})
  })
})

/** What was expected and what came, and where. */
function told(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { expected, actual } = error as { expected?: unknown; actual?: unknown }
  const line = error.stack?.split('\n').find((each) => each.includes('/letter/'))
  return `${error.message}: ${inspect(actual, { depth: 5 })}, not ${inspect(expected, { depth: 5 })} ${line}`
}
