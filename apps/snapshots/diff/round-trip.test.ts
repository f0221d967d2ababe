/** Random trees, packed and applied again. For longer than a moment: GANTRY_FUZZ_SECONDS=600 vitest run diff/round-trip.test.ts */
import { MEDIA } from '@gantry/model/descriptor'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Mount } from '../drivers/driver.ts'
import { mounted } from '../testing/mounted.ts'
import { startNode, type TestNode } from '../testing/node.ts'
import { listTree } from '../testing/tree.ts'
import { type Deed, deeds, perform } from '../testing/tree-fuzz.ts'

const SECONDS = Number(process.env.GANTRY_FUZZ_SECONDS ?? 0) // 0 is a fixed handful
const SEED = Number(process.env.GANTRY_FUZZ_SEED ?? (SECONDS > 0 ? Date.now() : 1))
const RUNS = SECONDS > 0 ? 1e9 : 15
const snapshotter = 'overlayfs'
const call = { signal: new AbortController().signal, namespace: 'test', lease: 'keep' }

describe.skipIf(process.getuid?.() !== 0)('packing, then applying (skipped without root: it mounts)', () => {
  test('makes the same tree of the same parent, however the two were compared', {
    timeout: (SECONDS + 60) * 1000,
  }, async () => {
    await using node = await startNode()
    let cases = 0
    const property = fc.asyncProperty(deeds, deeds, deeds, async (below, base, above) => {
      const keys = await prepare(node, [below, base, above], `case${cases++}`)
      const { left, right } = keys
      using lower = mounted(left)
      using upper = mounted(right)
      const expected = listTree(upper.path, { times: true })

      const { diff: folder } = await node.diff.diff({ left, right, mediaType: MEDIA.ociLayer }, call)
      const binds = { left: [bind(lower.path)], right: [bind(upper.path)] }
      const { diff: trees } = await node.diff.diff({ ...binds, mediaType: MEDIA.ociLayerZstd }, call)

      expect(await treeAfter(node, keys, folder)).toEqual(expected)
      expect(await treeAfter(node, keys, trees)).toEqual(expected)
    })
    const limit = SECONDS > 0 ? { interruptAfterTimeLimit: SECONDS * 1000 } : {}
    await fc.assert(property, { numRuns: RUNS, seed: SEED, ...limit })
    if (SECONDS > 0) process.stderr.write(`round trips, seed ${SEED}, ${SECONDS} s: ${cases}\n`)
  })
})

interface Keys {
  readonly name: string
  readonly parent: string
  readonly left: Mount[]
  readonly right: Mount[]
}

/** Two committed snapshots, one on the other, and a changed one on them. */
async function prepare(node: TestNode, layers: readonly (readonly Deed[])[], name: string): Promise<Keys> {
  let parent = ''
  let right: Mount[] = []
  for (const [index, all] of layers.entries()) {
    const key = `${name}-${index}`
    const { mounts } = await node.snapshots.prepare({ snapshotter, key, parent }, call)
    {
      using tree = mounted(mounts)
      perform(tree.path, all)
    }
    right = mounts
    if (index === layers.length - 1) break
    parent = `${key}-done`
    await node.snapshots.commit({ snapshotter, key, name: parent }, call)
  }
  const { mounts: left } = await node.snapshots.view({ snapshotter, key: `${name}-view`, parent }, call)
  return { name, parent, left, right }
}

async function treeAfter(
  node: TestNode,
  { name, parent }: Keys,
  diff: { mediaType: string; digest: string } | undefined,
): Promise<string[]> {
  const key = `${name}-after`
  const { mounts } = await node.snapshots.prepare({ snapshotter, key, parent }, call)
  try {
    await node.diff.apply({ diff, mounts }, call)
    using tree = mounted(mounts)
    return listTree(tree.path, { times: true })
  } finally {
    await node.snapshots.remove({ snapshotter, key }, call)
  }
}

function bind(source: string): Mount {
  return { type: 'bind', source, options: ['rw', 'rbind'] }
}
