/** Rules of namespaces, containers, images and sandboxes (behaviour facts, 2 to 4, 14). */
import { expect } from 'vitest'
import {
  all,
  code,
  codes,
  container,
  createContainer,
  digestOf,
  once,
  RUNTIME,
  type Rule,
  SPEC,
  same,
  TARGET,
  ZERO,
} from './node.ts'

export const RECORDS: readonly Rule[] = [
  {
    rule: '2 a namespace that is not there can be got and updated, not deleted; they are listed in order',
    check: async (it) => {
      expect((await it.namespaces.get({ name: 'nosuch' }, it.call())).namespace).toMatchObject({
        name: 'nosuch',
        labels: {},
      })
      expect(await code(it.namespaces.delete({ name: 'nosuch' }, it.call()))).toBe('not-found')
      for (const name of ['zz', 'z.a'])
        await it.namespaces.update({ namespace: { name, labels: { a: '1' } } }, it.call())
      const listed = (await it.namespaces.list({}, it.call())).namespaces.map(({ name }) => name)
      expect(listed.filter((name) => name.startsWith('z'))).toEqual(['z.a', 'zz'])
      expect(listed).toEqual([...listed].sort())
      for (const name of ['zz', 'z.a']) await it.namespaces.delete({ name }, it.call())
    },
  },
  {
    rule: '2 an update answers without the namespace',
    later: true,
    check: async (it) => {
      const { namespace } = await it.namespaces.update({ namespace: { name: 'updated' } }, it.call())
      expect(namespace).toBe(undefined)
      await it.namespaces.delete({ name: 'updated' }, it.call())
    },
  },
  {
    rule: '2 images, blobs, containers and snapshots keep a namespace; leases and uploads do not',
    check: async (it) => {
      const call = it.call({ namespace: 'kept', lease: 'l' })
      const remove = () => code(it.namespaces.delete({ name: 'kept' }, it.call()))
      await it.leases.create({ id: 'l' }, it.call({ namespace: 'kept' }))
      await it.images.create({ image: { name: 'i', target: TARGET } }, call)
      expect(await remove()).toBe('failed-precondition')
      await it.images.delete({ name: 'i' }, call)
      await createContainer(it, 'c', { namespace: 'kept' })
      expect(await remove()).toBe('failed-precondition')
      await it.containers.delete({ id: 'c' }, call)
      await it.snapshots.prepare({ snapshotter: 'overlayfs', key: 's' }, call)
      expect(await remove()).toBe('failed-precondition')
      await it.snapshots.remove({ snapshotter: 'overlayfs', key: 's' }, call)
      await all(it.content.write(once({ action: 2, ref: 'b', data: Buffer.from('kept') }), call))
      expect(await remove()).toBe('failed-precondition')
      await it.content.delete({ digest: digestOf('kept') }, call)
      expect(await remove()).toBe('ok')
    },
  },
  {
    rule: '3 a container needs a runtime and a spec, a snapshot a snapshotter, an extension a name; nothing else has to be there',
    check: async (it) => {
      const create = (change: object) =>
        it.containers.create({ container: { ...container('c'), ...change } }, it.call())
      const bad = {
        runtime: {},
        'no runtime': { runtime: undefined },
        spec: { spec: undefined },
        snapshot: { snapshotKey: 'k' },
        extension: { extensions: { '': SPEC } },
      }
      expect(
        await codes(
          Object.fromEntries(
            Object.entries({ ...bad, runtime: { runtime: { name: '' } } }).map(([name, change]) => [
              name,
              () => create(change),
            ]),
          ),
        ),
      ).toEqual(same(Object.keys(bad), 'invalid-argument'))
      const { container: made } = await create({
        image: 'nosuch',
        snapshotter: 'nosuch',
        snapshotKey: 'nosuch',
        createdAt: { seconds: 5n },
        extensions: { e: SPEC },
      })
      expect(Number(made?.createdAt?.seconds)).toBeGreaterThan(1e9)
      expect(made?.updatedAt).toEqual(made?.createdAt)
      expect(made?.spec).toMatchObject(SPEC)
      expect(await code(it.containers.delete({ id: 'c' }, it.call()))).toBe('ok')
      expect(
        await codes({
          get: () => it.containers.get({ id: 'c' }, it.call()),
          delete: () => it.containers.delete({ id: 'c' }, it.call()),
          update: () => it.containers.update({ container: container('c') }, it.call()),
          nameless: () => it.containers.update({ container: container('') }, it.call()),
        }),
      ).toEqual({ get: 'not-found', delete: 'not-found', update: 'not-found', nameless: 'invalid-argument' })
    },
  },
  {
    rule: '3 a list comes whole or one by one, the same',
    check: async (it) => {
      for (const id of ['b', 'a', 'c']) await createContainer(it, id)
      const { containers } = await it.containers.list({}, it.call())
      expect(containers.map(({ id }) => id)).toEqual(['a', 'b', 'c'])
      expect((await all(it.containers.listStream({}, it.call()))).map(({ container }) => container)).toEqual(containers)
      expect(
        (await all(it.containers.listStream({ filters: ['id==b'] }, it.call()))).map(({ container }) => container?.id),
      ).toEqual(['b'])
      for (const id of ['b', 'a', 'c']) await it.containers.delete({ id }, it.call())
    },
  },
  {
    rule: '4 an image needs a name, and a target with digest, size and media type',
    check: async (it) => {
      const create = (change: object) =>
        it.images.create({ image: { name: 'i', target: TARGET, ...change } }, it.call())
      const bad = {
        name: { name: '' },
        target: { target: undefined },
        digest: { target: { ...TARGET, digest: 'sha256:x' } },
        none: { target: { ...TARGET, digest: '' } },
        size: { target: { ...TARGET, size: 0n } },
        negative: { target: { ...TARGET, size: -1n } },
        media: { target: { ...TARGET, mediaType: '' } },
      }
      expect(
        await codes(Object.fromEntries(Object.entries(bad).map(([name, change]) => [name, () => create(change)]))),
      ).toEqual(same(Object.keys(bad), 'invalid-argument'))
      expect(await codes({ first: () => create({}), second: () => create({}) })).toEqual({
        first: 'ok',
        second: 'already-exists',
      })
      expect(
        await codes({
          empty: () => it.images.update({ image: { name: '', target: TARGET } }, it.call()),
          missing: () => it.images.update({ image: { name: 'j', target: TARGET } }, it.call()),
          get: () => it.images.get({ name: 'j' }, it.call()),
          delete: () => it.images.delete({ name: 'j' }, it.call()),
        }),
      ).toEqual({ empty: 'invalid-argument', missing: 'not-found', get: 'not-found', delete: 'not-found' })
      await it.images.delete({ name: 'i' }, it.call())
    },
  },
  {
    rule: '4 an update keeps the time of creation and moves the other',
    check: async (it) => {
      const { image } = await it.images.create({ image: { name: 'i', target: TARGET } }, it.call())
      const { image: updated } = await it.images.update(
        { image: { name: 'i', target: TARGET, createdAt: { seconds: 1n } } },
        it.call(),
      )
      expect(updated?.createdAt).toEqual(image?.createdAt)
      expect(updated?.updatedAt).not.toEqual(image?.updatedAt)
      await it.images.delete({ name: 'i', sync: true }, it.call())
    },
  },
  {
    rule: '4 the epoch of the source is the time, and a delete may name the digest it means',
    later: true,
    check: async (it) => {
      const { image } = await it.images.create(
        { image: { name: 'i', target: TARGET }, sourceDateEpoch: { seconds: 77n } },
        it.call(),
      )
      expect([image?.createdAt?.seconds, image?.updatedAt?.seconds]).toEqual([77n, 77n])
      expect(
        await codes({
          other: () => it.images.delete({ name: 'i', target: { ...TARGET, digest: ZERO } }, it.call()),
          same: () => it.images.delete({ name: 'i', target: TARGET }, it.call()),
        }),
      ).toEqual({ other: 'not-found', same: 'ok' })
    },
  },
  {
    rule: '14 sandboxes: what is not there is not found, the runtime stays, a controller has to be named',
    later: true,
    check: async (it) => {
      const sandbox = { sandboxId: 's', runtime: RUNTIME, sandboxer: 'shim', labels: { a: '1' } }
      expect(
        await codes({
          get: () => it.sandboxes.get({ sandboxId: 's' }, it.call()),
          delete: () => it.sandboxes.delete({ sandboxId: 's' }, it.call()),
          update: () => it.sandboxes.update({ sandbox }, it.call()),
        }),
      ).toEqual(same(['get', 'delete', 'update'], 'not-found'))
      await it.sandboxes.create({ sandbox }, it.call())
      const update = (fields: string[], change = {}) =>
        it.sandboxes.update({ sandbox: { ...sandbox, labels: { b: '2' }, ...change }, fields }, it.call())
      expect((await update(['labels.b'])).sandbox?.labels).toEqual({ a: '1', b: '2' })
      expect((await update([])).sandbox?.labels).toEqual({ b: '2' })
      expect(
        await codes({ path: () => update(['sandboxer']), runtime: () => update([], { runtime: { name: 'x' } }) }),
      ).toEqual(same(['path', 'runtime'], 'invalid-argument'))
      expect(
        await codes({
          none: () => it.controller.start({ sandboxId: 's' }, it.call()),
          unknown: () => it.controller.start({ sandboxId: 's', sandboxer: 'x' }, it.call()),
        }),
      ).toEqual({ none: 'invalid-argument', unknown: 'not-found' })
      await it.sandboxes.delete({ sandboxId: 's' }, it.call())
    },
  },
]
