/** Rules of content and of streams (behaviour facts, 5, 15.1). */
import { WriteAction as Action } from '@gantry/api/containerd/services/content/v1/content_pb'
import { expect } from 'vitest'
import { all, code, codes, codesOf, digestOf, hold, LONG, letGo, type Node, once, type Rule, same } from './node.ts'

const ABC = digestOf('abc')

export const CONTENT: readonly Rule[] = [
  {
    rule: '5.1 what another namespace has is not found; an empty list sends nothing',
    check: async (it) => {
      const held = await hold(it)
      await store(it, 'abc', held)
      const elsewhere = it.call({ namespace: it.other })
      const calls = (call: typeof held) => ({
        info: () => it.content.info({ digest: ABC }, call),
        update: () => it.content.update({ info: { digest: ABC, labels: { a: '1' } } }, call),
        read: () => it.content.read({ digest: ABC }, call),
      })
      expect(await codes(calls(elsewhere))).toEqual(same(['info', 'update', 'read'], 'not-found'))
      expect(await code(it.content.delete({ digest: ABC }, elsewhere))).toBe('not-found')
      expect(await codes(calls(held))).toEqual(same(['info', 'update', 'read'], 'ok'))
      expect(await all(it.content.list({}, elsewhere))).toEqual([])
      expect((await all(it.content.list({ filters: [`digest==${ABC}`] }, held)))[0]?.info).toHaveLength(1)
      expect(await all(it.content.list({ filters: ['size==3'] }, held))).toEqual([])
      await letGo(it)
    },
  },
  {
    rule: '5.2 ranges of a blob: what is past the end, before the start, and how offsets count',
    check: async (it) => {
      const held = await hold(it)
      await store(it, 'abc', held)
      const read = async (offset: bigint, size: bigint) => {
        const parts = await all(it.content.read({ digest: ABC, offset, size }, held))
        return [Buffer.concat(parts.map(({ data }) => data)).toString(), parts[0]?.offset]
      }
      expect(await read(0n, 0n)).toEqual(['abc', 0n])
      expect(await read(1n, 0n)).toEqual(['bc', 0n])
      expect(await read(1n, 1n)).toEqual(['b', 0n])
      expect(await read(0n, -5n)).toEqual(['abc', 0n])
      expect(await read(2n, 100n)).toEqual(['c', 0n])
      expect(await read(-7n, 2n)).toEqual(['ab', 0n])
      expect(await read(3n, 0n)).toEqual(['', undefined])
      expect(await code(it.content.read({ digest: ABC, offset: 4n }, held))).toBe('out-of-range')
      await letGo(it)
    },
  },
  {
    rule: '5.3 every message of a write has one answer, the last one twice; writes go on at their offset',
    check: async (it) => {
      const held = await hold(it)
      const write = (messages: object[]) => all(it.content.write(once(...messages), held))
      const replies = await write([
        { action: Action.STAT, ref: 'w', total: 6n },
        { action: Action.WRITE, data: Buffer.from('abc') },
        { action: Action.WRITE, offset: 3n, data: Buffer.from('def') },
        { action: Action.STAT },
      ])
      expect(replies.map(({ action, offset, total, digest }) => [action, offset, total, digest])).toEqual([
        [Action.STAT, 0n, 6n, digestOf('')],
        [Action.WRITE, 3n, 6n, ABC],
        [Action.WRITE, 6n, 6n, digestOf('abcdef')],
        ...[0, 1].map(() => [Action.STAT, 6n, 6n, digestOf('abcdef')]),
      ])
      expect(
        await code(
          it.content.write(once({ action: Action.WRITE, ref: 'w', offset: 4n, data: Buffer.from('x') }), held),
        ),
      ).toBe('out-of-range')
      expect((await it.content.status({ ref: 'w' }, held)).status).toMatchObject({ ref: 'w', offset: 6n })
      const again = await write([{ action: Action.WRITE, ref: 'w', offset: 0n, data: Buffer.from('z') }])
      expect(again[0]).toMatchObject({ offset: 1n, digest: digestOf('z') })
      expect(
        await codes({
          abort: () => it.content.abort({ ref: 'w' }, held),
          again: () => it.content.abort({ ref: 'w' }, held),
          status: () => it.content.status({ ref: 'w' }, held),
        }),
      ).toEqual({ abort: 'ok', again: 'not-found', status: 'not-found' })
      await letGo(it)
    },
  },
  {
    rule: '5.3 what a commit refuses, and what it leaves',
    check: async (it) => {
      const held = await hold(it)
      const commit = (more: object) =>
        it.content.write(
          once(
            { action: Action.STAT, ref: 'c' },
            { action: Action.COMMIT, offset: 0n, data: Buffer.from('abc'), ...more },
          ),
          held,
        )
      expect(
        await codes({
          size: () => commit({ total: 4n }),
          digest: () => commit({ expected: digestOf('x') }),
          label: () => commit({ labels: { k: LONG } }),
        }),
      ).toEqual({ size: 'failed-precondition', digest: 'failed-precondition', label: 'invalid-argument' })
      expect((await it.content.status({ ref: 'c' }, held)).status?.offset).toBe(3n)
      expect(await code(commit({ total: 3n, expected: ABC, labels: { a: '1' } }))).toBe('ok')
      expect((await it.content.info({ digest: ABC }, held)).info).toMatchObject({ size: 3n, labels: { a: '1' } })
      expect(await code(commit({}))).toBe('already-exists')
      expect(await code(it.content.status({ ref: 'c' }, held))).toBe('not-found')
      expect(await code(it.content.write(once({ action: Action.STAT, ref: 'd', expected: ABC }), held))).toBe(
        'already-exists',
      )
      await letGo(it)
    },
  },
  {
    rule: '5.3 an upload needs a ref, has one writer, and starts again when it is to have another size',
    check: async (it) => {
      const held = await hold(it)
      expect(await code(it.content.write(once({ action: Action.STAT }), held))).toBe('invalid-argument')
      const first = it.content
        .write(slow({ action: Action.WRITE, ref: 'u', total: 9n, data: Buffer.from('abc') }), held)
        [Symbol.asyncIterator]()
      await first.next()
      expect(await code(it.content.write(once({ action: Action.STAT, ref: 'u' }), held))).toBe('unavailable')
      expect(
        await code(it.content.write(once({ action: Action.STAT, ref: 'u' }), it.call({ namespace: it.other }))),
      ).toBe('ok')
      while (!(await first.next()).done);
      expect((await all(it.content.write(once({ action: Action.STAT, ref: 'u' }), held)))[0]).toMatchObject({
        offset: 3n,
      })
      expect((await all(it.content.write(once({ action: Action.STAT, ref: 'u', total: 7n }), held)))[0]).toMatchObject({
        offset: 0n,
        total: 7n,
      })
      expect((await it.content.listStatuses({ filters: ['ref==u'] }, held)).statuses).toHaveLength(1)
      expect((await it.content.listStatuses({ filters: ['ref~=^x'] }, held)).statuses).toEqual([])
      await it.content.abort({ ref: 'u' }, held)
      await it.content.abort({ ref: 'u' }, it.call({ namespace: it.other }))
      await letGo(it)
    },
  },
  {
    rule: '5.3 bytes that any namespace has are there for who knows their digest',
    check: async (it) => {
      const held = await hold(it)
      await store(it, 'abc', held)
      await it.leases.create({ id: 'hold' }, it.call({ namespace: it.other }))
      const elsewhere = it.call({ namespace: it.other, lease: 'hold' })
      const replies = await all(
        it.content.write(
          once(
            { action: Action.STAT, ref: 's', expected: ABC, total: 3n },
            { action: Action.COMMIT, offset: 3n, total: 3n, expected: ABC },
          ),
          elsewhere,
        ),
      )
      expect(replies[0]).toMatchObject({ offset: 3n, total: 3n })
      expect(await code(it.content.info({ digest: ABC }, elsewhere))).toBe('ok')
      await it.content.delete({ digest: ABC }, elsewhere)
      expect(await code(it.content.info({ digest: ABC }, held))).toBe('ok')
      await it.leases.delete({ id: 'hold', sync: true }, it.call({ namespace: it.other }))
      await letGo(it)
    },
  },
  {
    rule: '1.8, 5 masks of content',
    check: async (it) => {
      const held = await hold(it)
      await store(it, 'abc', held)
      const update = async (...paths: string[]) =>
        (await it.content.update({ info: { digest: ABC, labels: { a: '2', c: '2' } }, updateMask: { paths } }, held))
          .info?.labels
      await it.content.update({ info: { digest: ABC, labels: { a: '1', b: '1' } } }, held)
      expect(await update('labels.a')).toEqual({ a: '2', b: '1' })
      expect(await update('labels.b')).toEqual({ a: '2' })
      expect(await update('labels')).toEqual({ a: '2', c: '2' })
      expect(await update()).toEqual({ a: '2', c: '2' })
      expect(await codesOf(['size', 'digest', 'created_at'], (path) => update(path))).toEqual(
        same(['size', 'digest', 'created_at'], 'invalid-argument'),
      )
      await letGo(it)
    },
  },
  {
    rule: '15.1 a stream has an id of its own and is told that it is there',
    later: true,
    check: async (it) => {
      const open = (id: string) =>
        it.streaming
          .stream(
            slow({
              typeUrl: 'containerd.services.streaming.v1.StreamInit',
              value: Buffer.from([0x0a, id.length, ...Buffer.from(id)]),
            }),
            it.call(),
          )
          [Symbol.asyncIterator]()
      const first = open('s')
      expect((await first.next()).value?.typeUrl).toBe('google.protobuf.Empty')
      await expect(open('s').next()).rejects.toMatchObject({
        code: 'unknown',
        message: expect.stringContaining('already exists'),
      })
      await first.return?.()
    },
  },
]

/** The last message is followed by a pause, in which the call stays open. */
async function* slow<T>(message: T): AsyncGenerator<T> {
  yield message
  await new Promise((resolve) => setTimeout(resolve, 1000))
}

/** Stores a blob. */
export async function store(it: Node, text: string, call: ReturnType<Node['call']>): Promise<void> {
  await all(it.content.write(once({ action: Action.COMMIT, ref: `store-${text}`, data: Buffer.from(text) }), call))
}
