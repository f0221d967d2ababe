/** Rules of sockets, headers, names and labels (behaviour facts, 1.1 to 1.4). */
import { statSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { expect } from 'vitest'
import { frame, openWire } from '../fuzz/wire.ts'
import {
  codes,
  codesOf,
  container,
  createContainer,
  hold,
  LONG,
  letGo,
  once,
  RUNTIME,
  type Rule,
  SPEC,
  same,
  TARGET,
  ZERO,
} from './node.ts'

const GOOD_IDS = ['a', 'A0', '0', 'a-b.c_d', 'x'.repeat(76)]
const BAD_IDS = ['', 'x'.repeat(77), '-a', 'a-', '.a', 'a..b', 'a.-b', 'a/b', 'a b', 'a\n', 'ü', '../a']

export const COMMON: readonly Rule[] = [
  {
    rule: '1.1 the socket is for its owner and group',
    check: async ({ address }) => {
      expect(statSync(address).mode & 0o777).toBe(0o660)
    },
  },
  {
    rule: '1.1 the server says that it serves, to whoever asks about all of it, and knows nothing of one service',
    check: async ({ address }) => {
      using wire = openWire(address)
      const check = { path: '/grpc.health.v1.Health/Check', headers: {}, halfOpen: false, patienceMs: 20_000 }
      const body = frame(new Uint8Array())
      expect(await wire.call({ ...check, body })).toMatchObject({ code: 0, bytes: 7 }) // a frame, and SERVING in two bytes
      const named = frame(Buffer.from([0x0a, 1, 0x78]))
      expect(await wire.call({ ...check, body: named })).toMatchObject({ code: 5 })
    },
  },
  {
    rule: '1.1 a message that is compressed is refused as unimplemented, so that a client sends it plain',
    check: async ({ address, namespace }) => {
      using wire = openWire(address)
      const headers = { 'containerd-namespace': namespace, 'grpc-encoding': 'gzip' }
      const body = Buffer.from(frame(gzipSync(new Uint8Array())))
      body[0] = 1 // compressed
      const call = { headers, body, halfOpen: false, patienceMs: 20_000 }
      for (const path of ['version.v1.Version/Version', 'images.v1.Images/List', 'events.v1.Events/Subscribe'])
        expect(await wire.call({ ...call, path: `/containerd.services.${path}` })).toMatchObject({ code: 12 })
    },
  },
  {
    rule: '13 plugins are found by type and id; what is known of one that is not there is not found',
    later: true,
    check: async (it) => {
      const plugins = async (...filters: string[]) => (await it.introspection.plugins({ filters }, it.call())).plugins
      expect(await plugins('type==io.containerd.snapshotter.v1, id==overlayfs')).toMatchObject([{ id: 'overlayfs' }])
      expect(await plugins('type==io.containerd.runtime.v1', 'type==io.containerd.runtime.v2')).not.toEqual([])
      expect(await plugins('id==nosuch')).toEqual([])
      const { uuid } = await it.introspection.server({}, it.call())
      expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      const unknown = { type: 'io.containerd.snapshotter.v1', id: 'nosuch' }
      expect(await codes({ unknown: () => it.introspection.pluginInfo(unknown, it.call()) })).toEqual({
        unknown: 'not-found',
      })
      expect((await it.version.version({}, it.call())).version).toMatch(/^\d+\.\d+\.\d+/)
    },
  },
  {
    rule: '1.2 a call that needs a namespace and has none is a failed precondition, one with a malformed one an invalid argument',
    check: async (it) => {
      const calls = (namespace: string) => {
        const call = it.call({ namespace })
        return {
          'containers.get': () => it.containers.get({ id: 'x' }, call),
          'containers.list': () => it.containers.list({}, call),
          'content.info': () => it.content.info({ digest: ZERO }, call),
          'content.status': () => it.content.status({ ref: 'x' }, call),
          'images.get': () => it.images.get({ name: 'x' }, call),
          'images.list': () => it.images.list({}, call),
          'snapshots.stat': () => it.snapshots.stat({ snapshotter: 'overlayfs', key: 'x' }, call),
          'leases.list': () => it.leases.list({}, call),
          'leases.create': () => it.leases.create({ id: 'x' }, call),
          'tasks.list': () => it.tasks.list({}, call),
          'tasks.get': () => it.tasks.get({ containerId: 'x' }, call),
          'diff.apply': () =>
            it.diff.apply({ diff: { ...TARGET, mediaType: 'application/vnd.oci.image.layer.v1.tar' } }, call),
          'events.publish': () => it.events.publish({ topic: '/x', event: SPEC }, call),
        }
      }
      const names = Object.keys(calls(''))
      expect(await codes(calls(''))).toEqual(same(names, 'failed-precondition'))
      expect(await codes(calls('bad ns'))).toEqual(same(names, 'invalid-argument'))
    },
  },
  {
    rule: '1.2 so it is with mounts and sandboxes',
    later: true,
    check: async (it) => {
      const calls = (namespace: string) => {
        const call = it.call({ namespace })
        return {
          'mounts.info': () => it.mounts.info({ name: 'x' }, call),
          'mounts.list': () => it.mounts.list({}, call),
          'sandboxes.get': () => it.sandboxes.get({ sandboxId: 'x' }, call),
          'sandboxes.list': () => it.sandboxes.list({}, call),
        }
      }
      expect(await codes(calls(''))).toEqual(same(Object.keys(calls('')), 'failed-precondition'))
      expect(await codes(calls('-'))).toEqual(same(Object.keys(calls('')), 'invalid-argument'))
    },
  },
  {
    rule: '1.2 some calls need no namespace',
    check: async (it) => {
      const call = it.call({ namespace: '' })
      const envelope = { timestamp: { seconds: 1n }, namespace: 'x', topic: '/x', event: SPEC }
      expect(
        await codes({
          'namespaces.list': () => it.namespaces.list({}, call),
          version: () => it.version.version({}, call),
          'introspection.server': () => it.introspection.server({}, call),
          'introspection.plugins': () => it.introspection.plugins({}, call),
          'events.forward': () => it.events.forward({ envelope }, call),
        }),
      ).toEqual(
        same(['namespaces.list', 'version', 'introspection.server', 'introspection.plugins', 'events.forward'], 'ok'),
      )
    },
  },
  {
    rule: '1.2 the first of several namespaces counts',
    check: async (it) => {
      using wire = openWire(it.address)
      const body = frame(Buffer.from([0x0a, 5, ...Buffer.from('twice')])) // id of the lease
      const path = '/containerd.services.leases.v1.Leases/Create'
      const headers = { 'containerd-namespace': [it.namespace, it.other] }
      expect(await wire.call({ path, headers, body, halfOpen: false, patienceMs: 20_000 })).toMatchObject({ code: 0 })
      expect((await it.leases.list({ filters: ['id==twice'] }, it.call())).leases).toHaveLength(1)
      expect((await it.leases.list({ filters: ['id==twice'] }, it.call({ namespace: it.other }))).leases).toEqual([])
      await it.leases.delete({ id: 'twice' }, it.call())
    },
  },
  {
    rule: '1.2 a write makes its namespace',
    check: async (it) => {
      await createContainer(it, 'c', { namespace: it.other })
      const { namespaces } = await it.namespaces.list({}, it.call())
      expect(namespaces.map(({ name }) => name)).toContain(it.other)
      await it.containers.delete({ id: 'c' }, it.call({ namespace: it.other }))
    },
  },
  {
    rule: '1.4 identifiers of namespaces, containers and execs',
    check: async (it) => {
      const create = {
        namespace: (id: string) => it.namespaces.create({ namespace: { name: id } }, it.call()),
        container: (id: string) => it.containers.create({ container: container(id) }, it.call()),
      }
      const remove = {
        namespace: (id: string) => it.namespaces.delete({ name: id }, it.call()),
        container: (id: string) => it.containers.delete({ id }, it.call()),
      }
      for (const kind of ['namespace', 'container'] as const) {
        expect(await codesOf(GOOD_IDS, create[kind])).toEqual(same(GOOD_IDS, 'ok'))
        expect(await codesOf(GOOD_IDS, create[kind])).toEqual(same(GOOD_IDS, 'already-exists'))
        expect(await codesOf(GOOD_IDS, remove[kind])).toEqual(same(GOOD_IDS, 'ok'))
        expect(await codesOf(BAD_IDS, create[kind])).toEqual(same(BAD_IDS, 'invalid-argument'))
      }
    },
  },
  {
    rule: '1.4 identifiers of sandboxes',
    later: true,
    check: async (it) => {
      const create = (sandboxId: string) =>
        it.sandboxes.create({ sandbox: { sandboxId, runtime: RUNTIME, sandboxer: 'shim' } }, it.call())
      expect(await codesOf(GOOD_IDS, create)).toEqual(same(GOOD_IDS, 'ok'))
      expect(await codesOf(GOOD_IDS, create)).toEqual(same(GOOD_IDS, 'already-exists'))
      expect(await codesOf(GOOD_IDS, (sandboxId) => it.sandboxes.delete({ sandboxId }, it.call()))).toEqual(
        same(GOOD_IDS, 'ok'),
      )
      expect(await codesOf(BAD_IDS, create)).toEqual(same(BAD_IDS, 'invalid-argument'))
    },
  },
  {
    rule: '1.4 and of topics, component by component',
    check: async (it) => {
      const publish = (topic: string) => it.events.publish({ topic, event: SPEC }, it.call())
      const good = ['/a', '/a/b-c/D', `/${'x'.repeat(76)}`]
      const bad = ['', '/', 'a', 'a/b', '/a/', '//a', '/a b', '/-a', '/a/../b', `/${'x'.repeat(77)}`]
      expect(await codesOf(good, publish)).toEqual(same(good, 'ok'))
      expect(await codesOf(bad, publish)).toEqual(same(bad, 'invalid-argument'))
    },
  },
  {
    rule: '1.4 leases, snapshots, uploads and images may be called as one likes',
    check: async (it) => {
      const names = ['a b/c', '-x', '../..', '..', 'ü', 'x'.repeat(200)]
      const held = await hold(it)
      expect(await codesOf(names, (id) => it.leases.create({ id }, it.call()))).toEqual(same(names, 'ok'))
      expect(await codesOf(names, (key) => it.snapshots.prepare({ snapshotter: 'overlayfs', key }, held))).toEqual(
        same(names, 'ok'),
      )
      expect(await codesOf(names, (ref) => it.content.write(once({ action: 0, ref }), held))).toEqual(same(names, 'ok'))
      expect(await codesOf(names, (name) => it.images.create({ image: { name, target: TARGET } }, it.call()))).toEqual(
        same(names, 'ok'),
      )
      for (const name of names) {
        await it.leases.delete({ id: name }, it.call())
        await it.snapshots.remove({ snapshotter: 'overlayfs', key: name }, it.call())
        await it.content.abort({ ref: name }, it.call())
        await it.images.delete({ name }, it.call())
      }
      await letGo(it)
    },
  },
  {
    rule: '1.4 a label weighs 4,096 bytes at most, but for those of leases',
    check: async (it) => {
      const labels = { k: LONG }
      const held = await hold(it)
      const fits = { k: LONG.slice(1) }
      const calls = (labels: Record<string, string>) => ({
        namespace: () => it.namespaces.create({ namespace: { name: 'labelled', labels } }, it.call()),
        container: () => it.containers.create({ container: { ...container('labelled'), labels } }, it.call()),
        image: () => it.images.create({ image: { name: 'labelled', target: TARGET, labels } }, it.call()),
        snapshot: () => it.snapshots.prepare({ snapshotter: 'overlayfs', key: 'labelled', labels }, held),
        lease: () => it.leases.create({ id: 'labelled', labels }, it.call()),
      })
      const names = Object.keys(calls({}))
      expect(await codes(calls(labels))).toEqual({ ...same(names, 'invalid-argument'), lease: 'ok' })
      expect(await codes(calls(fits))).toEqual({ ...same(names, 'ok'), lease: 'already-exists' })
      await it.namespaces.delete({ name: 'labelled' }, it.call())
      await it.containers.delete({ id: 'labelled' }, it.call())
      await it.images.delete({ name: 'labelled' }, it.call())
      await it.snapshots.remove({ snapshotter: 'overlayfs', key: 'labelled' }, it.call())
      await it.leases.delete({ id: 'labelled' }, it.call())
      await letGo(it)
    },
  },
  {
    rule: '1.4 a label without value is dropped, and takes away the one there was',
    check: async (it) => {
      await it.images.create({ image: { name: 'i', target: TARGET, labels: { a: '1', b: '' } } }, it.call())
      expect((await it.images.get({ name: 'i' }, it.call())).image?.labels).toEqual({ a: '1' })
      await it.images.update(
        { image: { name: 'i', labels: { a: '' } }, updateMask: { paths: ['labels.a'] } },
        it.call(),
      )
      expect((await it.images.get({ name: 'i' }, it.call())).image?.labels).toEqual({})
      await it.images.delete({ name: 'i' }, it.call())
    },
  },
  {
    rule: '1.4 digests are of three algorithms, in lower case and of exact length',
    check: async (it) => {
      const info = (digest: string) => it.content.info({ digest }, it.call())
      const good = [`sha256:${'a'.repeat(64)}`, `sha384:${'a'.repeat(96)}`, `sha512:${'a'.repeat(128)}`]
      const bad = [
        '',
        'x',
        'sha256:',
        `sha256:${'A'.repeat(64)}`,
        `sha256:${'a'.repeat(63)}`,
        `sha256:${'g'.repeat(64)}`,
        'md5:d41d8cd98f00b204e9800998ecf8427e',
        `sha256:${'a'.repeat(64)}x`,
      ]
      expect(await codesOf(good, info)).toEqual(same(good, 'not-found'))
      expect(await codesOf(bad, info)).toEqual(same(bad, 'invalid-argument'))
    },
  },
]
