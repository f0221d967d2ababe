/** Rules of snapshots, mounts and diffs (behaviour facts, 6 to 8). */
import { expect } from 'vitest'
import { store } from './content.ts'
import { all, code, codes, digestOf, hold, letGo, type Rule, same } from './node.ts'

const ABC = digestOf('abc')

export const SNAPSHOTS: readonly Rule[] = [
  {
    rule: '6 an unknown snapshotter is an invalid argument in every call',
    check: async (it) => {
      for (const snapshotter of ['', 'nosuch']) {
        const calls = {
          prepare: () => it.snapshots.prepare({ snapshotter, key: 'k' }, it.call()),
          view: () => it.snapshots.view({ snapshotter, key: 'k' }, it.call()),
          mounts: () => it.snapshots.mounts({ snapshotter, key: 'k' }, it.call()),
          commit: () => it.snapshots.commit({ snapshotter, key: 'k', name: 'n' }, it.call()),
          remove: () => it.snapshots.remove({ snapshotter, key: 'k' }, it.call()),
          stat: () => it.snapshots.stat({ snapshotter, key: 'k' }, it.call()),
          update: () => it.snapshots.update({ snapshotter, info: { name: 'k' } }, it.call()),
          list: () => it.snapshots.list({ snapshotter }, it.call()),
          usage: () => it.snapshots.usage({ snapshotter, key: 'k' }, it.call()),
        }
        expect(await codes(calls)).toEqual(same(Object.keys(calls), 'invalid-argument'))
      }
      expect(await code(it.snapshots.cleanup({ snapshotter: 'overlayfs' }, it.call()))).toBe('unimplemented')
    },
  },
  {
    rule: '6 the life of a snapshot, and what it refuses',
    check: async (it) => {
      const held = await hold(it)
      const at = (key: string, parent = '') => ({ snapshotter: 'overlayfs', key, parent })
      const prepare = (key: string, parent = '') => it.snapshots.prepare(at(key, parent), held)
      const commit = (name: string, key: string) =>
        it.snapshots.commit({ snapshotter: 'overlayfs', name, key, labels: { of: 'name' } }, held)
      await it.snapshots.prepare({ ...at('a'), labels: { of: 'key', none: '' } }, held)
      expect(
        await codes({
          again: () => prepare('a'),
          'no parent': () => prepare('b', 'nosuch'),
          'active parent': () => prepare('b', 'a'),
        }),
      ).toEqual({ again: 'already-exists', 'no parent': 'not-found', 'active parent': 'invalid-argument' })
      expect((await it.snapshots.stat(at('a'), held)).info).toMatchObject({
        kind: 2,
        parent: '',
        labels: { of: 'key' },
      })
      expect(await code(commit('A', 'a'))).toBe('ok')
      expect((await it.snapshots.stat(at('A'), held)).info).toMatchObject({ kind: 3, labels: { of: 'name' } })
      await it.snapshots.view(at('v', 'A'), held)
      await prepare('b', 'A')
      expect((await it.snapshots.stat(at('v'), held)).info).toMatchObject({ kind: 1, parent: 'A' })
      expect(
        await codes({
          stat: () => it.snapshots.stat(at('a'), held),
          'commit what is gone': () => commit('B', 'a'),
          'commit to a taken name': () => commit('A', 'b'),
          'commit a view': () => commit('V', 'v'),
          'commit twice': () => commit('B', 'A'),
          'mounts of a committed one': () => it.snapshots.mounts(at('A'), held),
          'mounts of none': () => it.snapshots.mounts(at('nosuch'), held),
          'remove a parent': () => it.snapshots.remove(at('A'), held),
          'remove none': () => it.snapshots.remove(at('nosuch'), held),
          'update without name': () => it.snapshots.update({ snapshotter: 'overlayfs', info: { name: '' } }, held),
          'update of none': () => it.snapshots.update({ snapshotter: 'overlayfs', info: { name: 'nosuch' } }, held),
          'update of a kind': () =>
            it.snapshots.update(
              { snapshotter: 'overlayfs', info: { name: 'A' }, updateMask: { paths: ['kind'] } },
              held,
            ),
          'usage of none': () => it.snapshots.usage(at('nosuch'), held),
        }),
      ).toEqual({
        ...same(
          ['stat', 'commit what is gone', 'mounts of none', 'remove none', 'update of none', 'usage of none'],
          'not-found',
        ),
        'commit to a taken name': 'already-exists',
        ...same(
          ['commit a view', 'commit twice', 'mounts of a committed one', 'remove a parent'],
          'failed-precondition',
        ),
        ...same(['update without name', 'update of a kind'], 'invalid-argument'),
      })
      expect(await it.snapshots.usage(at('v'), held)).toMatchObject({ size: 0n, inodes: 0n })
      for (const key of ['v', 'b', 'A']) await it.snapshots.remove(at(key), held)
      await letGo(it)
    },
  },
  {
    rule: '6.1 mounts of each kind of snapshot',
    check: async (it) => {
      const held = await hold(it)
      const at = (key: string, parent = '') => ({ snapshotter: 'overlayfs', key, parent })
      const shape = ({ mounts }: { mounts: { type: string; source: string; options: string[] }[] }) =>
        mounts.map(({ type, options }) => [
          type,
          ...options
            .map((option) => option.replace(/=.*/, '='))
            .filter((option) => !['userxattr', 'index='].includes(option)),
        ])
      expect(shape(await it.snapshots.prepare(at('1'), held))).toEqual([['bind', 'rw', 'rbind']])
      await it.snapshots.commit({ ...at('1'), name: 'one' }, held)
      expect(shape(await it.snapshots.view(at('v1', 'one'), held))).toEqual([['bind', 'ro', 'rbind']])
      expect(shape(await it.snapshots.prepare(at('2', 'one'), held))).toEqual([
        ['overlay', 'workdir=', 'upperdir=', 'lowerdir='],
      ])
      await it.snapshots.commit({ ...at('2'), name: 'two' }, held)
      expect(shape(await it.snapshots.view(at('v2', 'two'), held))).toEqual([['overlay', 'lowerdir=']])
      expect(shape(await it.snapshots.view(at('v0'), held))).toEqual([['bind', 'ro', 'rbind']])
      for (const key of ['v0', 'v1', 'v2', 'two', 'one']) await it.snapshots.remove(at(key), held)
      await letGo(it)
    },
  },
  {
    rule: '1.7, 6 the fields that filters of snapshots know',
    check: async (it) => {
      const held = await hold(it)
      const at = (key: string, parent = '') => ({ snapshotter: 'overlayfs', key, parent, labels: { 'a.b': key } })
      await it.snapshots.prepare(at('k'), held)
      await it.snapshots.commit({ ...at('k'), name: 'base' }, held)
      await it.snapshots.prepare(at('top', 'base'), held)
      const names = async (filter: string) =>
        (await all(it.snapshots.list({ snapshotter: 'overlayfs', filters: [filter] }, held)))
          .flatMap(({ info }) => info.map(({ name }) => name))
          .filter((name) => ['top', 'base'].includes(name))
      expect(await names('kind==active')).toEqual(['top'])
      expect(await names('kind==committed,name==base')).toEqual(['base'])
      expect(await names('parent==base')).toEqual(['top'])
      expect(await names('labels.a.b==top')).toEqual(['top'])
      expect(await names('name~=^(top|base)$')).toEqual(['base', 'top'])
      for (const key of ['top', 'base']) await it.snapshots.remove({ snapshotter: 'overlayfs', key }, held)
      await letGo(it)
    },
  },
  {
    rule: '6 a snapshot that is wanted under a name that is there is said to be there',
    check: async (it) => {
      const held = await hold(it)
      await it.snapshots.prepare({ snapshotter: 'overlayfs', key: 'k' }, held)
      await it.snapshots.commit({ snapshotter: 'overlayfs', key: 'k', name: 'target' }, held)
      const labels = { 'containerd.io/snapshot.ref': 'target' }
      expect(await code(it.snapshots.prepare({ snapshotter: 'overlayfs', key: 'other', labels }, held))).toBe(
        'already-exists',
      )
      expect(await code(it.snapshots.stat({ snapshotter: 'overlayfs', key: 'other' }, held))).toBe('not-found')
      await it.snapshots.remove({ snapshotter: 'overlayfs', key: 'target' }, held)
      await letGo(it)
    },
  },
  {
    rule: '7 mounts: nothing to handle is unimplemented, what is not there is not found',
    later: true,
    check: async (it) => {
      const bind = { type: 'bind', source: '/nosuch', options: ['rbind'] }
      expect(
        await codes({
          activate: () => it.mounts.activate({ name: 'm', mounts: [bind] }, it.call()),
          info: () => it.mounts.info({ name: 'm' }, it.call()),
          deactivate: () => it.mounts.deactivate({ name: 'm' }, it.call()),
          update: () => it.mounts.update({ info: { name: 'm' } }, it.call()),
          list: () => it.mounts.list({ filters: ['('] }, it.call()),
        }),
      ).toEqual({
        activate: 'unimplemented',
        info: 'not-found',
        deactivate: 'not-found',
        update: 'unimplemented',
        list: 'ok',
      })
    },
  },
  {
    rule: '8 layers of no known type, layers that are not there',
    check: async (it) => {
      const held = await hold(it)
      await store(it, 'abc', held)
      const layer = (mediaType: string, digest = ABC) => ({ diff: { mediaType, digest, size: 3n }, mounts: [] })
      expect(
        await codes({
          apply: () => it.diff.apply(layer('text/plain'), held),
          missing: () => it.diff.apply(layer('application/vnd.oci.image.layer.v1.tar', digestOf('nosuch')), held),
          diff: () => it.diff.diff({ mediaType: 'text/plain' }, held),
        }),
      ).toEqual({ apply: 'unknown', missing: 'not-found', diff: 'unimplemented' })
      await letGo(it)
    },
  },
]
