/** Rules of leases (behaviour facts, 1.3, 11). */
import { expect } from 'vitest'
import { all, code, codes, container, digestOf, hold, letGo, once, type Rule, same, TARGET, ZERO } from './node.ts'

export const LEASES: readonly Rule[] = [
  {
    rule: '1.3 under a lease that is not there nothing is made that a lease could hold; containers and lasting images are not held',
    check: async (it) => {
      const call = it.call({ lease: 'nosuch' })
      expect(
        await codes({
          prepare: () => it.snapshots.prepare({ snapshotter: 'overlayfs', key: 'leased' }, call),
          view: () => it.snapshots.view({ snapshotter: 'overlayfs', key: 'leased' }, call),
          write: () => it.content.write(once({ action: 0, ref: 'leased' }), call),
        }),
      ).toEqual(same(['prepare', 'view', 'write'], 'not-found'))
      expect(await code(it.containers.create({ container: container('leased') }, call))).toBe('ok')
      expect(await code(it.images.create({ image: { name: 'lasting', target: TARGET } }, call))).toBe('ok')
      await it.containers.delete({ id: 'leased' }, it.call())
      await it.images.delete({ name: 'lasting' }, it.call())
    },
  },
  {
    rule: '1.3 an image that will expire is held',
    later: true,
    check: async (it) => {
      const image = { name: 'leased', target: TARGET, labels: { 'containerd.io/gc.expire': '2100-01-01T00:00:00Z' } }
      expect(await code(it.images.create({ image }, it.call({ lease: 'nosuch' })))).toBe('not-found')
      const held = await hold(it)
      await it.images.create({ image }, held)
      expect((await it.leases.listResources({ id: 'hold' }, held)).resources).toMatchObject([
        { type: 'images', id: 'leased' },
      ])
      await it.images.delete({ name: 'leased' }, held)
      await letGo(it)
    },
  },
  {
    rule: '11 leases: made up ids, duplicates, resources of each kind in order, no doubts about what is there',
    check: async (it) => {
      const { lease } = await it.leases.create({}, it.call())
      expect(lease?.id).toMatch(/^\d+-[\w-]{4}$/)
      const id = lease?.id ?? ''
      const add = (type: string, resource: string) =>
        it.leases.addResource({ id, resource: { type, id: resource } }, it.call())
      expect(await code(it.leases.create({ id }, it.call()))).toBe('already-exists')
      expect(
        await codes({
          snapshot: () => add('snapshots/native', 's'),
          ingest: () => add('ingests', 'i'),
          content: () => add('content', ZERO),
          again: () => add('content', ZERO),
        }),
      ).toEqual(same(['snapshot', 'ingest', 'content', 'again'], 'ok'))
      expect(
        await codes({
          digest: () => add('content', 'x'),
          'no snapshotter': () => add('snapshots', 's'),
          'three parts': () => add('snapshots/a/b', 's'),
          other: () => add('x', 's'),
          none: () => add('', 's'),
        }),
      ).toEqual({
        digest: 'invalid-argument',
        'no snapshotter': 'invalid-argument',
        'three parts': 'invalid-argument',
        other: 'unimplemented',
        none: 'unimplemented',
      })
      const { resources } = await it.leases.listResources({ id }, it.call())
      expect(resources.map(({ type }) => type)).toEqual(['content', 'ingests', 'snapshots/native'])
      expect(await code(it.leases.deleteResource({ id, resource: { type: 'ingests', id: 'never' } }, it.call()))).toBe(
        'ok',
      )
      await it.leases.delete({ id, sync: true }, it.call())
      const gone = { id, resource: { type: 'ingests', id: 'i' } }
      expect(
        await codes({
          delete: () => it.leases.delete({ id }, it.call()),
          add: () => it.leases.addResource(gone, it.call()),
          remove: () => it.leases.deleteResource(gone, it.call()),
          list: () => it.leases.listResources({ id }, it.call()),
        }),
      ).toEqual(same(['delete', 'add', 'remove', 'list'], 'not-found'))
    },
  },
  {
    rule: '11 a create under a lease is held; a delete under it lets go',
    check: async (it) => {
      const held = await hold(it)
      const kinds = async () =>
        (await it.leases.listResources({ id: 'hold' }, it.call())).resources.map(({ type, id }) => `${type} ${id}`)
      await it.snapshots.prepare({ snapshotter: 'overlayfs', key: 'k' }, held)
      await all(it.content.write(once({ action: 2, ref: 'r', data: Buffer.from('held') }), held))
      expect(await kinds()).toEqual([`content ${digestOf('held')}`, 'snapshots/overlayfs k'])
      await it.snapshots.remove({ snapshotter: 'overlayfs', key: 'k' }, held)
      await it.content.delete({ digest: digestOf('held') }, held)
      expect(await kinds()).toEqual([])
      await letGo(it)
    },
  },
  {
    rule: '5.3, 6, 11 what is there already is held by the lease of who asks for it',
    later: true,
    check: async (it) => {
      const held = await hold(it)
      await all(it.content.write(once({ action: 2, ref: 'r', data: Buffer.from('held') }), held))
      await it.snapshots.prepare({ snapshotter: 'overlayfs', key: 'k' }, held)
      await it.leases.create({ id: 'second' }, it.call())
      const again = it.snapshots.prepare({ snapshotter: 'overlayfs', key: 'k' }, it.call({ lease: 'second' }))
      expect(await code(again)).toBe('already-exists')
      const write = it.content.write(
        once({ action: 0, ref: 'q', expected: digestOf('held') }),
        it.call({ lease: 'second' }),
      )
      expect(await code(write)).toBe('already-exists')
      expect((await it.leases.listResources({ id: 'second' }, it.call())).resources).toMatchObject([
        { type: 'content', id: digestOf('held') },
        { type: 'snapshots/overlayfs', id: 'k' },
      ])
      await it.snapshots.remove({ snapshotter: 'overlayfs', key: 'k' }, held)
      await it.leases.delete({ id: 'second' }, it.call())
      await letGo(it)
    },
  },
]
