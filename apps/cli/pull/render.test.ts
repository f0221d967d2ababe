import { expect, test } from 'vitest'
import { advance, NOTHING, type PullState } from './progress.ts'
import { renderBar, renderBlock, renderPlain } from './render.ts'

const LAYER = `layer-sha256:${'ab'.repeat(32)}`
const CONFIG = `config-sha256:${'cd'.repeat(32)}`

function after(...reports: [event: string, name: string, progress?: bigint, total?: bigint][]): PullState {
  return reports.reduce(
    (state, [event, name, progress = 0n, total = 0n]) => advance(state, { event, name, parents: [], progress, total }),
    NOTHING,
  )
}

test('each object has a line with a bar, the whole has one below', () => {
  const state = after(
    ['Resolving from 127.0.0.1', ''],
    ['downloading', LAYER, 500_000n, 1_000_000n],
    ['complete', CONFIG, 300n, 300n],
  )

  expect(renderBlock(state, { columns: 80, rows: 24 }, 1234)).toEqual([
    'layer-abababababab     downloading    [===========>           ] 500kB/1MB',
    'config-cdcdcdcdcdcd    complete       [=======================] 300B/300B',
    '1.2 s  500kB  Resolving from 127.0.0.1',
  ])
})

test('lines fit a narrow terminal, and finished objects make room in a low one', () => {
  const many = Array.from({ length: 30 }, (_, n) => [n === 7 ? 'downloading' : 'complete', `layer-${n}`] as const)
  const block = renderBlock(
    after(...many.map(([event, name]) => [event, name] as [string, string])),
    { columns: 30, rows: 10 },
    0,
  )

  expect(block).toHaveLength(2)
  expect(block[0]).toContain('layer-7')
  expect(Math.max(...block.map((line) => line.length))).toBeLessThan(30)
})

test('a total that was known stays known', () => {
  const state = after(['downloading', LAYER, 1n, 10n], ['extracting', LAYER])

  expect(state.items.get(LAYER)).toEqual({ name: LAYER, event: 'extracting', done: 0n, total: 10n })
})

test('the log has a line a step', () => {
  expect(renderPlain({ name: LAYER, event: 'extracted', done: 0n, total: 2_000_000n })).toBe(
    'layer-abababababab: extracted (2MB)',
  )
  expect(renderPlain({ name: 'layer-\u001b[2J', event: 'waiting', done: 0n, total: 0n })).toBe(
    'layer-\\x1b[2J: waiting',
  )
})

test.each([
  [0, '    '],
  [0.5, '=>  '],
  [1, '===='],
  [7, '===='],
])('a bar of %s', (part, bar) => {
  expect(renderBar(part, 4)).toBe(bar)
})
