import { Fault } from '@gantry/model/fault'
import { nodeOf } from '@gantry/service/collection'
import { expect, test, vi } from 'vitest'
import { measure } from './measure.ts'

const never = new AbortController().signal
const node = (kind: string, id: string, size = 0n) => nodeOf({ namespace: 'a', kind, id }, { labels: {}, size })
const replyOf = (size: bigint) => ({ $typeName: 'containerd.services.snapshots.v1.UsageResponse', size, inodes: 1n })

test('snapshots without a size are asked for it, each once; what cannot be told is missing', async () => {
  const nodes = [
    node('snapshots/far', 'open'),
    node('snapshots/far', 'done', 7n),
    node('snapshots/far', 'gone'),
    node('snapshots/far', 'broken'),
    node('content', 'sha256:a'),
  ]
  const usage = vi.fn(async ({ key }: { key?: string }) => {
    if (key === 'gone') throw new Fault('not-found', 'It was there a moment ago')
    if (key === 'broken') throw new Fault('unavailable', 'Its remote is away')
    return replyOf(42n) as never
  })

  const sizes = await measure(nodes, { usage }, never)

  expect(Array.from(sizes, ([{ thing }, size]) => [thing.id, size])).toEqual([
    ['open', 42n],
    ['gone', 0n],
  ])
  expect(usage.mock.calls.map(([request]) => request)).toEqual(
    ['open', 'gone', 'broken'].map((key) => ({ snapshotter: 'far', key })),
  )
})

test('nothing is asked for any more after ten seconds', async () => {
  const timeout = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.abort())
  const usage = vi.fn()

  expect(await measure([node('snapshots/far', 'huge')], { usage }, never)).toEqual(new Map())

  expect(timeout).toHaveBeenCalledWith(10_000)
  timeout.mockRestore()
})
