/** Rules of filters and masks of records (behaviour facts, 1.7, 1.8). */
import { expect } from 'vitest'
import { code, codesOf, container, createContainer, type Rule, SPEC, same, TARGET } from './node.ts'

export const MASKS: readonly Rule[] = [
  {
    rule: '1.7 a filter that does not parse is an invalid argument',
    check: async (it) => {
      const filters = ['id=~x', 'name==', "labels.'a'==x", 'labels.a-b==x', 'name==/x/', ',']
      const calls = {
        containers: (filter: string) => it.containers.list({ filters: [filter] }, it.call()),
        images: (filter: string) => it.images.list({ filters: [filter] }, it.call()),
        content: (filter: string) => it.content.list({ filters: [filter] }, it.call()),
        statuses: (filter: string) => it.content.listStatuses({ filters: [filter] }, it.call()),
        leases: (filter: string) => it.leases.list({ filters: [filter] }, it.call()),
        plugins: (filter: string) => it.introspection.plugins({ filters: [filter] }, it.call()),
      }
      for (const list of Object.values(calls))
        expect(await codesOf(filters, list)).toEqual(same(filters, 'invalid-argument'))
    },
  },
  {
    rule: '1.7 the fields that filters of containers, images and leases know',
    check: async (it) => {
      await createContainer(it, 'f1', {}, { image: 'docker.io/x:1', labels: { 'a.b': '1', 'x/y-z': '2' } })
      const annotated = { ...TARGET, annotations: { note: 'n' } }
      await it.images.create({ image: { name: 'f2', target: annotated, labels: { 'a.b': '1' } } }, it.call())
      await it.leases.create({ id: 'f3', labels: { 'a.b': '1' } }, it.call())
      const ids = async (filter: string) =>
        (await it.containers.list({ filters: [filter] }, it.call())).containers.length
      const names = async (filter: string) =>
        (await it.images.list({ filters: [`name==f2,${filter}`] }, it.call())).images.length
      const leases = async (filter: string) => (await it.leases.list({ filters: [filter] }, it.call())).leases.length

      const found = [
        'id==f1',
        'image==docker.io/x:1',
        'runtime.name==io.containerd.runc.v2',
        'labels.a.b==1',
        'labels."a.b"',
        'labels."x/y-z"==2',
        'id~=^f',
        'id==f1, image',
        'id!=f2,id==f1',
      ]
      expect(await resultsOf(found, ids)).toEqual(Object.fromEntries(found.map((filter) => [filter, 1])))
      const missed = ['id==f2', 'labels.a==1', 'snapshotter==x', 'spec', 'labels', 'runtime', 'id==f1,image==y']
      expect(await resultsOf(missed, ids)).toEqual(Object.fromEntries(missed.map((filter) => [filter, 0])))
      const images = [
        `target.digest==${TARGET.digest}`,
        `target.mediatype==${TARGET.mediaType}`,
        'labels.a.b',
        'annotations.note==n',
        'name~=/f./',
      ]
      expect(await resultsOf(images, names)).toEqual(Object.fromEntries(images.map((filter) => [filter, 1])))
      expect(await resultsOf(['id==f3', 'labels."a.b"==1', 'labels.a', 'id~=|f[34]|'], leases)).toEqual({
        'id==f3': 1,
        'labels."a.b"==1': 1,
        'labels.a': 0,
        'id~=|f[34]|': 1,
      })
      await it.containers.delete({ id: 'f1' }, it.call())
      await it.images.delete({ name: 'f2' }, it.call())
      await it.leases.delete({ id: 'f3' }, it.call())
    },
  },
  {
    rule: '1.8 masks of images',
    check: async (it) => {
      const next = {
        name: 'm',
        target: { ...TARGET, size: 9n, annotations: { n: '2', o: '3' } },
        labels: { a: '2', 'b.c/d': '3' },
      }
      const update = async (...paths: string[]) => {
        await it.images.create(
          { image: { name: 'm', target: { ...TARGET, annotations: { n: '1' } }, labels: { a: '1', z: '1' } } },
          it.call(),
        )
        try {
          const { image } = await it.images.update({ image: next, updateMask: { paths } }, it.call())
          return [image?.target?.size, image?.target?.annotations, image?.labels]
        } finally {
          await it.images.delete({ name: 'm' }, it.call())
        }
      }
      expect(await update('labels')).toEqual([5n, { n: '1' }, { a: '2', 'b.c/d': '3' }])
      expect(await update('labels.b.c/d')).toEqual([5n, { n: '1' }, { a: '1', z: '1', 'b.c/d': '3' }])
      expect(await update('labels.z')).toEqual([5n, { n: '1' }, { a: '1' }])
      expect(await update('target')).toEqual([9n, { n: '2', o: '3' }, { a: '1', z: '1' }])
      expect(await update('annotations')).toEqual([5n, { n: '2', o: '3' }, { a: '1', z: '1' }])
      expect(await update('annotations.o')).toEqual([5n, { n: '1', o: '3' }, { a: '1', z: '1' }])
      expect(await update()).toEqual([9n, { n: '2', o: '3' }, { a: '2', 'b.c/d': '3' }])
      const bad = ['name', 'Labels', 'created_at', 'target.digest', '*']
      expect(await codesOf(bad, (path) => update(path))).toEqual(same(bad, 'invalid-argument'))
    },
  },
  {
    rule: '1.8 masks of containers',
    check: async (it) => {
      const value = (text: string) => ({ typeUrl: 'x', value: Buffer.from(text) })
      const next = {
        ...container('m'),
        image: 'j',
        snapshotter: 's',
        snapshotKey: 'k',
        labels: { a: '2' },
        extensions: { e: value('2') },
        spec: { ...SPEC, value: Buffer.from('{"a":1}') },
      }
      const update = async (paths: string[], change = {}) => {
        const old = {
          ...container('m'),
          image: 'i',
          snapshotter: 's',
          snapshotKey: 'o',
          labels: { a: '1', b: '1' },
          extensions: { e: value('1'), f: value('1') },
        }
        await it.containers.create({ container: old }, it.call())
        try {
          const { container } = await it.containers.update(
            { container: { ...next, ...change }, updateMask: { paths } },
            it.call(),
          )
          return [
            container?.image,
            container?.snapshotKey,
            container?.labels,
            Object.keys(container?.extensions ?? {}).sort(),
            container?.spec?.value.length,
          ]
        } finally {
          await it.containers.delete({ id: 'm' }, it.call())
        }
      }
      expect(await update(['labels.a'])).toEqual(['i', 'o', { a: '2', b: '1' }, ['e', 'f'], 2])
      expect(await update(['labels'])).toEqual(['i', 'o', { a: '2' }, ['e', 'f'], 2])
      expect(await update(['extensions'])).toEqual(['i', 'o', { a: '1', b: '1' }, ['e'], 2])
      expect(await update(['extensions.e'])).toEqual(['i', 'o', { a: '1', b: '1' }, ['e', 'f'], 2])
      expect(await update(['image', 'snapshotkey', 'spec'])).toEqual(['j', 'k', { a: '1', b: '1' }, ['e', 'f'], 7])
      expect(await update([])).toEqual(['j', 'k', { a: '2' }, ['e'], 7])
      const bad = ['id', 'runtime', 'runtime.name', 'snapshotter', 'snapshot_key', 'created_at', 'sandbox']
      expect(await codesOf(bad, (path) => update([path]))).toEqual(same(bad, 'invalid-argument'))
      expect(await code(update([], { snapshotter: 't' }))).toBe('invalid-argument')
      expect(await code(update([], { runtime: { name: 'x' } }))).toBe('invalid-argument')
    },
  },
  {
    rule: '1.8 masks of namespaces',
    check: async (it) => {
      await it.namespaces.create({ namespace: { name: 'masked', labels: { a: '1', b: '1' } } }, it.call())
      const update = async (...paths: string[]) => {
        await it.namespaces.update(
          { namespace: { name: 'masked', labels: { a: '2' } }, updateMask: { paths } },
          it.call(),
        )
        return (await it.namespaces.get({ name: 'masked' }, it.call())).namespace?.labels
      }
      expect(await update('labels.a')).toEqual({ a: '2', b: '1' })
      expect(await update()).toEqual({ a: '2' })
      expect(await codesOf(['labels', 'name', 'x.y'], (path) => update(path))).toEqual(
        same(['labels', 'name', 'x.y'], 'invalid-argument'),
      )
      await it.namespaces.delete({ name: 'masked' }, it.call())
    },
  },
]

async function resultsOf<T>(values: readonly string[], of: (value: string) => Promise<T>): Promise<Record<string, T>> {
  return Object.fromEntries(await Promise.all(values.map(async (value) => [value, await of(value)] as const)))
}
