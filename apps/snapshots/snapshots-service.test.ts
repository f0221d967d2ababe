import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Kind } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { describe, expect, test, vi } from 'vitest'
import { startNode, type TestNode } from './testing/node.ts'

/** On a busy machine. */
const SOON = { timeout: 30_000 }

const call = { signal: new AbortController().signal, namespace: 'test' }
const leased = { ...call, lease: 'keep' }
const snapshotter = 'overlayfs'
const fault = (code: string) => expect.objectContaining({ name: 'Fault', code })

const listed = async (node: TestNode, filters: string[] = [], namespace = 'test') => {
  const names: string[] = []
  for await (const { info } of node.snapshots.list({ snapshotter, filters }, { ...call, namespace }))
    names.push(...info.map(({ name }) => name))
  return names
}

describe.skipIf(process.getuid?.() !== 0)(
  'the Snapshots service (skipped without root: folders change their owner)',
  { timeout: 60_000 },
  () => {
    test('a chain is prepared, committed, seen and removed, and each step is told once', async () => {
      await using node = await startNode()
      const { snapshots, root } = node

      const first = await snapshots.prepare({ snapshotter, key: 'a', labels: { of: 'key' } }, call)
      writeFileSync(join(root, '1', 'fs', 'x'), Buffer.alloc(5000))
      await snapshots.commit({ snapshotter, key: 'a', name: 'base', labels: { of: 'name' } }, call)
      const second = await snapshots.prepare({ snapshotter, key: 'b', parent: 'base' }, call)
      const third = await snapshots.view({ snapshotter, key: 'v', parent: 'base' }, call)

      expect(first.mounts).toEqual([
        expect.objectContaining({ type: 'bind', source: `${root}/1/fs`, target: '', options: ['rw', 'rbind'] }),
      ])
      expect(second.mounts[0]?.options.slice(0, 3)).toEqual([
        `workdir=${root}/2/work`,
        `upperdir=${root}/2/fs`,
        `lowerdir=${root}/1/fs`,
      ])
      expect(third.mounts).toEqual([
        expect.objectContaining({ type: 'bind', source: `${root}/1/fs`, options: ['ro', 'rbind'] }),
      ])
      expect((await snapshots.mounts({ snapshotter, key: 'b' }, call)).mounts).toEqual(second.mounts)
      const { info } = await snapshots.stat({ snapshotter, key: 'base' }, call)
      expect(info).toMatchObject({ name: 'base', parent: '', kind: Kind.COMMITTED, labels: { of: 'name' } })
      expect(await snapshots.usage({ snapshotter, key: 'base' }, call)).toMatchObject({ inodes: 2n })
      expect(await snapshots.usage({ snapshotter, key: 'v' }, call)).toMatchObject({ size: 0n, inodes: 0n })
      await expect(snapshots.remove({ snapshotter, key: 'base' }, call)).rejects.toThrow(fault('failed-precondition'))
      for (const key of ['b', 'v', 'base']) await snapshots.remove({ snapshotter, key }, call)
      await vi.waitFor(() => expect(readdirSync(root)).toEqual([]), SOON)
      expect(node.heard).toEqual([
        '/snapshot/prepare {"key":"a","parent":"","snapshotter":"overlayfs"}',
        '/snapshot/commit {"key":"a","name":"base","snapshotter":"overlayfs"}',
        '/snapshot/prepare {"key":"b","parent":"base","snapshotter":"overlayfs"}',
        '/snapshot/remove {"key":"b","snapshotter":"overlayfs"}',
        '/snapshot/remove {"key":"v","snapshotter":"overlayfs"}',
        '/snapshot/remove {"key":"base","snapshotter":"overlayfs"}',
      ])
    })

    test('a commit onto a parent rebases, and the parent then stays', async () => {
      await using node = await startNode()
      const { snapshots } = node
      for (const key of ['a', 'b']) await snapshots.prepare({ snapshotter, key }, call)
      await snapshots.commit({ snapshotter, key: 'a', name: 'base' }, call)

      await snapshots.commit({ snapshotter, key: 'b', name: 'top', parent: 'base' }, call)

      expect((await snapshots.stat({ snapshotter, key: 'top' }, call)).info?.parent).toBe('base')
      await expect(snapshots.remove({ snapshotter, key: 'base' }, call)).rejects.toThrow(fault('failed-precondition'))
      await snapshots.remove({ snapshotter, key: 'top' }, call)
      await snapshots.remove({ snapshotter, key: 'base' }, call)
    })

    test('namespaces see their own, filters choose, and long lists come in messages of 100', async () => {
      await using node = await startNode()
      const { snapshots } = node
      await Promise.all(
        Array.from({ length: 120 }, (_, index) =>
          snapshots.view(
            { snapshotter, key: `k${String(index).padStart(3, '0')}`, labels: { even: index % 2 ? '' : 'yes' } },
            call,
          ),
        ),
      )
      await snapshots.prepare({ snapshotter, key: 'k000' }, { ...call, namespace: 'other' })

      const batches: number[] = []
      for await (const { info } of snapshots.list({ snapshotter, filters: [] }, call)) batches.push(info.length)

      expect(batches).toEqual([100, 20])
      expect(await listed(node, ['labels.even==yes'])).toHaveLength(60)
      expect(await listed(node, ['kind==active'])).toEqual([])
      expect(await listed(node, ['name==k001', 'name~=^k00[23]$'])).toEqual(['k001', 'k002', 'k003'])
      expect(await listed(node, [], 'other')).toEqual(['k000'])
      await expect(listed(node, ['name=='])).rejects.toThrow(fault('invalid-argument'))
      const { holdings } = await node.owner.holdings({}, call)
      expect(holdings.map(({ namespace, snapshotters }) => [namespace, snapshotters])).toEqual([
        ['other', [snapshotter]],
        ['test', [snapshotter]],
      ])
    })

    test('another daemon has snapshots of its own: it names no namespace, its leases are its own, and it may clean up', async () => {
      await using node = await startNode()
      const { snapshots } = node
      const daemon = { signal: call.signal, lease: 'of its own' }

      await snapshots.prepare({ snapshotter: 'gantry', key: 'default/1/box' }, daemon)
      await snapshots.commit(
        { snapshotter: 'gantry', key: 'default/1/box', name: 'default/2/done' },
        { ...daemon, namespace: 'default' },
      )

      const { info } = await snapshots.stat({ snapshotter: 'gantry', key: 'default/2/done' }, daemon)
      expect(info?.labels).toEqual({ 'containerd.io/gc.root': 'exported' })
      expect(await listed(node)).toEqual([])
      await snapshots.remove({ snapshotter: 'gantry', key: 'default/2/done' }, daemon)
      await snapshots.cleanup({ snapshotter: 'gantry' }, daemon)
      expect(readdirSync(node.root)).toEqual([])
    })

    test.each(['', 'zfs', '../x'])('snapshotter %j is not here', async (other) => {
      await using node = await startNode()

      await expect(node.snapshots.stat({ snapshotter: other, key: 'a' }, call)).rejects.toThrow(
        fault('invalid-argument'),
      )
    })

    test('labels are updated by mask, and nothing else is', async () => {
      await using node = await startNode()
      const { snapshots } = node
      await snapshots.prepare({ snapshotter, key: 'a', labels: { one: '1', two: '2' } }, call)
      const update = (labels: Record<string, string>, paths: string[]) =>
        snapshots.update({ snapshotter, info: { name: 'a', labels }, updateMask: { paths } }, call)

      expect((await update({ one: '' }, ['labels.one'])).info?.labels).toEqual({ two: '2' })
      expect((await update({ three: '3' }, [])).info?.labels).toEqual({ three: '3' })
      await expect(update({}, ['kind'])).rejects.toThrow(fault('invalid-argument'))
      await expect(snapshots.update({ snapshotter, info: { name: '' } }, call)).rejects.toThrow(
        fault('invalid-argument'),
      )
    })

    test('a call without namespace, and Cleanup, say so', async () => {
      await using node = await startNode()

      await expect(node.snapshots.stat({ snapshotter, key: 'a' }, { signal: call.signal })).rejects.toThrow(
        fault('failed-precondition'),
      )
      await expect(node.snapshots.cleanup({ snapshotter }, call)).rejects.toThrow(fault('unimplemented'))
    })

    test('a lease holds a snapshot before it is there, also one that was there already', async () => {
      await using node = await startNode()
      const { snapshots, heard } = node

      await snapshots.prepare({ snapshotter, key: 'a' }, leased)
      await expect(snapshots.prepare({ snapshotter, key: 'a' }, leased)).rejects.toThrow(fault('already-exists'))
      await snapshots.commit({ snapshotter, key: 'a', name: 'base' }, leased)
      const wanted = { snapshotter, key: 'x', labels: { 'containerd.io/snapshot.ref': 'base' } }
      await expect(snapshots.prepare(wanted, leased)).rejects.toThrow(fault('already-exists'))
      await snapshots.remove({ snapshotter, key: 'base' }, leased)

      expect(heard.map((line) => line.split(' {')[0])).toEqual([
        'lease keep: snapshots/overlayfs a',
        '/snapshot/prepare',
        'lease keep: snapshots/overlayfs a',
        'lease keep: snapshots/overlayfs base',
        '/snapshot/commit',
        'lease keep lets go: snapshots/overlayfs a',
        'lease keep: snapshots/overlayfs x',
        'lease keep: snapshots/overlayfs base',
        '/snapshot/remove',
        'lease keep lets go: snapshots/overlayfs base',
      ])
    })

    test('a lease that does not exist fails the call and makes nothing', async () => {
      await using node = await startNode()

      await expect(node.snapshots.prepare({ snapshotter, key: 'a' }, { ...call, lease: 'none' })).rejects.toThrow(
        fault('not-found'),
      )

      expect(readdirSync(node.root)).toEqual([])
      expect(await listed(node)).toEqual([])
    })

    test('of many that prepare the same key one wins, and the others leave no folder', async () => {
      await using node = await startNode()

      const results = await Promise.allSettled(
        Array.from({ length: 20 }, () => node.snapshots.prepare({ snapshotter, key: 'a' }, call)),
      )

      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      await vi.waitFor(() => expect(readdirSync(node.root)).toHaveLength(1), SOON)
    })

    test('a restart keeps what is recorded, clears what is not, and gives no number twice', async () => {
      let base: string
      {
        const node = await startNode(`/tmp/gantry-restart-${process.pid}`)
        base = dirname(node.root)
        await using _ = node
        await node.snapshots.prepare({ snapshotter, key: 'a' }, call)
        await node.snapshots.prepare({ snapshotter, key: 'b' }, call)
        await node.snapshots.remove({ snapshotter, key: 'b' }, call)
        mkdirSync(join(node.root, 'new-9', 'fs'), { recursive: true })
        mkdirSync(join(node.root, '7', 'fs'), { recursive: true })
      }
      {
        await using node = await startNode(base)
        expect(await listed(node)).toEqual(['a'])
        await vi.waitFor(() => expect(readdirSync(node.root)).toEqual(['1']), SOON)
        const { mounts } = await node.snapshots.prepare({ snapshotter, key: 'c' }, call)
        expect(mounts[0]?.source).toBe(`${node.root}/8/fs`)
        expect(existsSync(join(node.root, '8', 'work'))).toBe(true)
      }
      rmSync(base, { recursive: true })
    })
  },
)
