import { nodeOf } from '@gantry/service/collection'
import { expect, test } from 'vitest'
import { createMarking } from './mark.ts'

const NOW = Date.parse('2026-01-02T00:00:00Z')
const PAST = '2026-01-01T00:00:00Z'
const FUTURE = '2026-01-03T00:00:00Z'
const gc = (labels: Record<string, string>) =>
  Object.fromEntries(Object.entries(labels).map(([key, value]) => [`containerd.io/gc.${key}`, value]))

/** `a/content/d1 -> content/d2`: kind and id of a thing in namespace `a`, its labels, and what it holds by itself. */
const node = (name: string, labels: Record<string, string> = {}, refs: string[] = [], namespace = 'a') => {
  const at = name.lastIndexOf('/')
  const split = (text: string) => ({
    kind: text.slice(0, text.lastIndexOf('/')),
    id: text.slice(text.lastIndexOf('/') + 1),
  })
  return nodeOf(
    { namespace, kind: name.slice(0, at), id: name.slice(at + 1) },
    { labels: gc(labels), refs: refs.map(split) },
  )
}

function keptOf(nodes: ReturnType<typeof node>[]): string[] {
  const marking = createMarking(NOW)
  for (const each of nodes) marking.add(each)
  for (const _ of marking.run());
  return nodes.filter(({ thing }) => marking.isMarked(thing)).map(({ thing }) => `${thing.kind}/${thing.id}`)
}

test.each([
  ['an image', node('images/i', {}, ['content/x'])],
  ['an image that expires later', node('images/i', { expire: FUTURE }, ['content/x'])],
  ['an image whose expiry is malformed', node('images/i', { expire: 'soon' }, ['content/x'])],
  ['an image whose expiry has no zone', node('images/i', { expire: '2001-02-03T04:05:06' }, ['content/x'])],
  ['an image whose expiry has no seconds', node('images/i', { expire: '2001-02-03T04:05Z' }, ['content/x'])],
  ['an image whose expiry is a day that is none', node('images/i', { expire: '2001-02-29T04:05:06Z' }, ['content/x'])],
  [
    'an image whose expiry is an hour that is none',
    node('images/i', { expire: '2001-02-03T24:00:00Z' }, ['content/x']),
  ],
  ['an image whose expiry has no T', node('images/i', { expire: '2001-02-03 04:05:06Z' }, ['content/x'])],
  ['a label of an image', node('images/i', { 'ref.content': 'x' })],
  ['a lease', node('leases/l', {}, ['content/x'])],
  ['a lease that expires later', node('leases/l', { expire: FUTURE }, ['content/x'])],
  ['a flat lease', node('leases/l', { flat: '1' }, ['content/x'])],
  ['a label of a container', node('containers/c', { 'ref.content': 'x' })],
  ['a label of a sandbox', node('sandboxes/s', { 'ref.content/z': 'x' })],
  ['a rooted blob', node('content/r', { root: '', 'ref.content.m.0': 'x' })],
  ['a rooted blob, whatever follows the key', node('content/r', { 'root.because': '1', 'ref.content.l.12': 'x' })],
  ['a rooted snapshot', node('snapshots/o/s', { root: 'y', 'ref.content.config': 'x' })],
])('%s keeps a blob', (_, holder) => {
  expect(keptOf([holder, node('content/x')])).toContain('content/x')
})

test.each([
  ['nothing', node('content/other', { root: '1' })],
  ['an image that has expired', node('images/i', { expire: PAST }, ['content/x'])],
  ['an image that has expired elsewhere', node('images/i', { expire: '2001-02-03T04:05:06.7+08:00' }, ['content/x'])],
  ['a lease that has expired', node('leases/l', { expire: PAST }, ['content/x'])],
  ['an image of another namespace', node('images/i', {}, ['content/x'], 'b')],
  ['a blob that nothing keeps', node('content/r', { 'ref.content': 'x' })],
  ['a label that only begins alike', node('images/i', { 'ref.contents': 'x' })],
  ['a label of a lease', node('leases/l', { 'ref.content': 'x' })],
  ['a reference to a snapshot of that name', node('images/i', { 'ref.snapshot.o': 'x' })],
])('%s does not keep a blob', (_, holder) => {
  expect(keptOf([holder, node('content/x')])).not.toContain('content/x')
})

test.each([
  ['a container', node('containers/c', {}, ['snapshots/o/x'])],
  ['a label with a suffix', node('images/i', { 'ref.snapshot.o/top': 'x' })],
  ['a label on content', node('content/c', { root: '1', 'ref.snapshot.o': 'x' })],
  ['a lease', node('leases/l', {}, ['snapshots/o/x'])],
])('%s keeps a snapshot and those below', (_, holder) => {
  const kept = keptOf([holder, node('snapshots/o/x', {}, ['snapshots/o/base']), node('snapshots/o/base')])

  expect(kept).toEqual(expect.arrayContaining(['snapshots/o/x', 'snapshots/o/base']))
})

test('a reference to another snapshotter does not', () => {
  expect(keptOf([node('images/i', { 'ref.snapshot.other': 'x' }), node('snapshots/o/x')])).toEqual(['images/i'])
})

test.each([
  ['container', 'containers/p'],
  ['container.why', 'containers/p'],
  ['content', 'content/p'],
  ['image/why', 'images/p'],
  ['snapshot.o/why', 'snapshots/o/p'],
])('a thing with the back reference %s lives as long as that', (label, parent) => {
  const child = node('content/x', { [`bref.${label}`]: 'p', 'ref.content': 'y' })

  expect(keptOf([node(parent, { root: '1' }), child, node('content/y')])).toEqual([parent, 'content/x', 'content/y'])
  expect(keptOf([child, node('content/y')])).toEqual([])
})

test('an expired image that another one is named by goes with it', () => {
  const extra = node('images/extra', { expire: PAST, 'bref.image': 'main' }, ['content/x'])

  expect(keptOf([node('images/main'), extra])).toEqual(['images/main', 'images/extra'])
  expect(keptOf([extra])).toEqual([])
})

test('a flat lease follows parents and targets, and no labels', () => {
  const kept = keptOf([
    node('leases/l', { flat: '' }, ['content/m', 'snapshots/o/top', 'images/i']),
    node('content/m', { 'ref.content': 'below' }),
    node('content/below'),
    node('snapshots/o/top', { 'ref.content': 'below' }, ['snapshots/o/base']),
    node('snapshots/o/base'),
    node('images/i', { expire: PAST, 'ref.content': 'below' }, ['content/t']),
    node('content/t', { 'ref.content': 'below' }),
    node('content/child', { 'bref.content': 'm' }),
  ])

  expect(kept).toEqual(['leases/l', 'content/m', 'snapshots/o/top', 'snapshots/o/base', 'images/i', 'content/t'])
})

test('what is held flat and fully is followed', () => {
  const nodes = [
    node('leases/flat', { flat: '' }, ['content/m']),
    node('content/m', { 'ref.content': 'below' }),
    node('content/below'),
  ]

  expect(keptOf([...nodes, node('images/i', {}, ['content/m'])])).toContain('content/below')
  expect(keptOf([node('images/i', {}, ['content/m']), ...nodes])).toContain('content/below')
})

test.each([
  ['usedat<24h|x', '2026-01-01T12:00:00Z', true],
  ['usedat<1h30m|x', '2026-01-01T12:00:00Z', false],
  ['usedat>90m|x', '2026-01-01T12:00:00Z', true],
  ['usedat>1h,usedat<24h|x', '2026-01-01T12:00:00Z', true],
  ['usedat>1h,usedat<2h|x', '2026-01-01T12:00:00Z', false],
  ['usedat<24h|x', undefined, false],
  ['usedat<24h|x', 'yesterday', false],
  ['usedat<a day|x', '2026-01-01T12:00:00Z', false],
  ['usedat=1h|x', '2026-01-01T12:00:00Z', false],
  ['x', '2026-01-01T12:00:00Z', false],
])('a conditional reference %s to what was used at %s', (condition, usedAt, held) => {
  const snapshot = node('snapshots/o/x', usedAt === undefined ? {} : { 'cond.value-usedat': usedAt })

  expect(keptOf([node('images/i', { 'cond.snapshot.o/a': condition }), snapshot]).length === 2).toBe(held)
  expect(keptOf([node('images/i', { expire: PAST, 'cond.snapshot.o/a': condition }), snapshot])).toEqual([])
})

test.each(['streams', 'mounts'])('%s stay by themselves, or with the lease they were opened under', (kind) => {
  const one = (id: string, lease?: string) =>
    nodeOf(
      { namespace: 'a', kind, id },
      { labels: {}, heldBy: lease === undefined ? [] : [{ kind: 'leases', id: lease }] },
    )
  const kept = keptOf([
    one('free'),
    one('held', 'l'),
    one('left', 'gone'),
    one('late', 'old'),
    one('flat', 'f'),
    node('leases/l'),
    node('leases/f', { flat: '' }),
    node('leases/old', { expire: PAST }),
  ])

  expect(kept.filter((name) => name.startsWith(kind))).toEqual([`${kind}/free`, `${kind}/held`, `${kind}/flat`])
})

test('an active mount with a back reference lives as long as what it names', () => {
  const mount = node('mounts/m', { 'bref.container': 'c' })

  expect(keptOf([node('containers/c'), mount])).toContain('mounts/m')
  expect(keptOf([mount])).toEqual([])
})

test.each(['stream', 'mount'])('a label on an image keeps a %s that its lease would let go', (kind) => {
  const held = nodeOf(
    { namespace: 'a', kind: `${kind}s`, id: 'x' },
    { labels: {}, heldBy: [{ kind: 'leases', id: 'gone' }] },
  )

  expect(keptOf([node('images/i', { [`ref.${kind}.why`]: 'x' }), held])).toContain(`${kind}s/x`)
})

test('an owner says how long a thing stays by itself', () => {
  const upload = (id: string, rootUntilMs: number) =>
    nodeOf({ namespace: 'a', kind: 'ingests', id }, { labels: {}, root: 'upload', rootUntilMs })

  expect(keptOf([upload('ever', 0), upload('old', NOW - 1), upload('new', NOW + 1)])).toEqual([
    'ingests/ever',
    'ingests/new',
  ])
})

test('labels that refer in a circle keep each other only as long as a root does', () => {
  const circle = [node('content/a', { 'ref.content': 'b' }), node('content/b', { 'ref.content': 'a' })]

  expect(keptOf(circle)).toEqual([])
  expect(keptOf([...circle, node('images/i', {}, ['content/a'])])).toHaveLength(3)
})

test('what goes is in an order in which nothing refers to what went before it', () => {
  const marking = createMarking(NOW)
  const nodes = [
    node('snapshots/o/base'),
    node('content/layer'),
    node('snapshots/o/top', {}, ['snapshots/o/base']),
    node('content/config', { 'ref.snapshot.o': 'top' }),
    node('content/manifest', { 'ref.content.0': 'config', 'ref.content.1': 'layer' }),
    node('images/i', { expire: PAST }, ['content/manifest']),
  ]
  for (const each of nodes) marking.add(each)
  for (const _ of marking.run());

  const order = marking.unmarked().map(({ thing }) => thing.id)

  const pairs = [
    ['i', 'manifest'],
    ['manifest', 'config'],
    ['manifest', 'layer'],
    ['config', 'top'],
    ['top', 'base'],
  ] as const
  expect(order).toHaveLength(6)
  for (const [first, later] of pairs) expect(order.indexOf(first)).toBeLessThan(order.indexOf(later))
})

test('what was touched stays, with what it refers to now, and is told apart', () => {
  const marking = createMarking(NOW)
  for (const each of [node('content/m'), node('content/layer'), node('content/other')]) marking.add(each)
  for (const _ of marking.run());

  marking.touch(node('content/m', { 'ref.content': 'layer' }))
  for (const _ of marking.run());

  expect(marking.unmarked().map(({ thing }) => thing.id)).toEqual(['other'])
  expect(marking.isTouched({ namespace: 'a', kind: 'content', id: 'layer' })).toBe(true)
})

test('the chain from the root says how each link holds the next one', () => {
  const marking = createMarking(NOW)
  const nodes = [
    node('leases/l', { expire: FUTURE }, ['content/m']),
    node('content/m', { 'ref.content': 'layer' }),
    node('content/layer'),
  ]
  for (const each of nodes) marking.add(each)
  for (const _ of marking.run());

  const chain = marking.chain({ namespace: 'a', kind: 'content', id: 'layer' })

  expect(chain.map(({ thing, how }) => `${thing.id}: ${how}`)).toEqual([
    'l: lease',
    'm: held by the lease',
    'layer: label',
  ])
  expect(marking.nextExpiry()).toBe(Date.parse(FUTURE))
})
