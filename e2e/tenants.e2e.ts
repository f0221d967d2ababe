/**
 * Two namespaces of one node cannot see, name, change or keep alive each other's things. Every method that names a thing is
 * tried: what the other namespace has is answered for like what nobody has.
 */
import { WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { createClient } from '@gantry/client/client'
import type { CallOptions } from '@gantry/rpc/client'
import { expect, inject, test } from 'vitest'
import { clear } from './fuzz/clear.ts'
import { METHODS } from './fuzz/methods.ts'
import { onGantry } from './harness/target.ts'
import { all, codes, digestOf, type Node, once, openNode, RUNTIME, SPEC, same, TARGET } from './letter/node.ts'

/** Methods that name nothing inside a namespace, or what the facts let everybody see. */
const OPEN = [
  ...['Namespaces.Get', 'Namespaces.List', 'Namespaces.Create', 'Namespaces.Update', 'Namespaces.Delete'],
  ...['Events.Publish', 'Events.Forward', 'Events.Subscribe', 'Version.Version', 'Snapshots.Cleanup', 'Mounts.Update'],
  ...['Introspection.Plugins', 'Introspection.Server', 'Introspection.PluginInfo', 'Diff.Diff', 'Audit.Read'],
]
const BYTES = 'of the first namespace'

/** What is there in the first namespace, by its names. */
const THEIRS = { id: 'c', digest: digestOf(BYTES), key: 's', name: 'n', ref: 'r', exec: 'e', stream: 'st' }
const NOBODYS: typeof THEIRS = { ...THEIRS, id: 'x', digest: digestOf('x'), key: 'x', name: 'x', ref: 'x', stream: 'x' }

onGantry((target) => {
  test('what one namespace has is not there for another', { timeout: 120_000 }, async () => {
    await target().pull()
    await using it = openNode(target(), target().anotherNamespace(), inject('image'))
    await using _stream = await furnish(it)
    const outside = it.call({ namespace: it.other })
    const naming = namingCalls(it, outside)

    const covered = [
      ...Object.keys(naming(THEIRS)),
      ...Object.keys(making(it, outside)),
      ...Object.keys(listing(it, outside)),
      ...OPEN,
    ]
    expect(covered.sort()).toEqual(METHODS.map(({ parent, name }) => `${parent.name}.${name}`).sort())
    expect(await codes(naming(THEIRS))).toEqual(await codes(naming(NOBODYS)))
    expect(await listed(it, outside)).toEqual(same(Object.keys(listing(it, outside)), 0))

    const before = await listed(it, it.call())
    const made = making(it, outside)
    expect(await codes(made)).toEqual(same(Object.keys(made), 'ok')) // the same names are free here
    expect(await listed(it, it.call())).toEqual(before)
    await removeAll(it, outside)
    expect(await listed(it, it.call())).toEqual(before)

    await keepFromOutside(it, outside)
    await it.images.delete({ name: THEIRS.name }, it.call())
    for (const { id } of (await it.leases.list({}, it.call())).leases)
      await it.leases.delete({ id, sync: true }, it.call())
    expect(
      await codes({
        blob: () => it.content.info({ digest: THEIRS.digest }, it.call()),
        snapshot: () => it.snapshots.stat({ snapshotter: 'overlayfs', key: THEIRS.key }, it.call()),
      }),
    ).toEqual(same(['blob', 'snapshot'], 'not-found'))
    await clear(it.address)
  })
})

type Calls = Record<string, () => Promise<unknown> | AsyncIterable<unknown>>

/** Every call that names a thing which must be there. */
function namingCalls(it: Node, call: CallOptions) {
  return ({ id, digest, key, name, ref, exec, stream }: typeof THEIRS): Calls => {
    const overlay = { snapshotter: 'overlayfs', key }
    const task = { containerId: id }
    const process = { ...task, execId: exec }
    const sandbox = { sandboxId: id, sandboxer: 'shim' }
    const resource = { id, resource: { type: 'content', id: digest } }
    const layer = { digest, size: 1n, mediaType: 'application/vnd.oci.image.layer.v1.tar' }
    const any = (type: string, text: string) => ({
      typeUrl: `containerd.types.transfer.${type}`,
      value: field(1, text),
    })
    return {
      'Containers.Get': () => it.containers.get({ id }, call),
      'Containers.Update': () => it.containers.update({ container: { id }, updateMask: { paths: ['labels'] } }, call),
      'Containers.Delete': () => it.containers.delete({ id }, call),
      'Content.Info': () => it.content.info({ digest }, call),
      'Content.Update': () => it.content.update({ info: { digest } }, call),
      'Content.Delete': () => it.content.delete({ digest }, call),
      'Content.Read': () => it.content.read({ digest }, call),
      'Content.Status': () => it.content.status({ ref }, call),
      'Content.Abort': () => it.content.abort({ ref }, call),
      'Diff.Apply': () => it.diff.apply({ diff: layer }, call),
      'Images.Get': () => it.images.get({ name }, call),
      'Images.Update': () => it.images.update({ image: { name, target: TARGET } }, call),
      'Images.Delete': () => it.images.delete({ name }, call),
      'Leases.Delete': () => it.leases.delete({ id }, call),
      'Leases.AddResource': () => it.leases.addResource(resource, call),
      'Leases.DeleteResource': () => it.leases.deleteResource(resource, call),
      'Leases.ListResources': () => it.leases.listResources({ id }, call),
      'Mounts.Info': () => it.mounts.info({ name }, call),
      'Mounts.Deactivate': () => it.mounts.deactivate({ name }, call),
      'Snapshots.Mounts': () => it.snapshots.mounts(overlay, call),
      'Snapshots.Commit': () => it.snapshots.commit({ ...overlay, name: 'new' }, call),
      'Snapshots.Remove': () => it.snapshots.remove(overlay, call),
      'Snapshots.Stat': () => it.snapshots.stat(overlay, call),
      'Snapshots.Update': () => it.snapshots.update({ snapshotter: 'overlayfs', info: { name: key } }, call),
      'Snapshots.Usage': () => it.snapshots.usage(overlay, call),
      'Store.Get': () => it.sandboxes.get({ sandboxId: id }, call),
      'Store.Update': () => it.sandboxes.update({ sandbox: { sandboxId: id }, fields: ['labels'] }, call),
      'Store.Delete': () => it.sandboxes.delete({ sandboxId: id }, call),
      'Controller.Create': () => it.controller.create({ ...sandbox, sandboxer: 'nobody' }, call),
      'Controller.Start': () => it.controller.start(sandbox, call),
      'Controller.Platform': () => it.controller.platform(sandbox, call),
      'Controller.Stop': () => it.controller.stop(sandbox, call),
      'Controller.Wait': () => it.controller.wait(sandbox, call),
      'Controller.Status': () => it.controller.status(sandbox, call),
      'Controller.Shutdown': () => it.controller.shutdown(sandbox, call),
      'Controller.Metrics': () => it.controller.metrics(sandbox, call),
      'Controller.Update': () => it.controller.update(sandbox, call),
      'Tasks.Create': () => it.tasks.create(task, call),
      'Tasks.Start': () => it.tasks.start(task, call),
      'Tasks.Delete': () => it.tasks.delete(task, call),
      'Tasks.DeleteProcess': () => it.tasks.deleteProcess(process, call),
      'Tasks.Get': () => it.tasks.get(process, call),
      'Tasks.Kill': () => it.tasks.kill({ ...task, signal: SIGKILL, all: true }, call),
      'Tasks.Exec': () => it.tasks.exec({ ...task, execId: 'new', spec: SPEC }, call),
      'Tasks.ResizePty': () => it.tasks.resizePty(process, call),
      'Tasks.CloseIO': () => it.tasks.closeIO({ ...process, stdin: true }, call),
      'Tasks.Pause': () => it.tasks.pause(task, call),
      'Tasks.Resume': () => it.tasks.resume(task, call),
      'Tasks.ListPids': () => it.tasks.listPids(task, call),
      'Tasks.Checkpoint': () => it.tasks.checkpoint(task, call),
      'Tasks.Update': () => it.tasks.update({ ...task, resources: SPEC }, call),
      'Tasks.Wait': () => it.tasks.wait(task, call),
      'Transfer.Transfer': () =>
        it.transfer.transfer(
          { source: any('ImageImportStream', stream), destination: any('ImageStore', 'imported') },
          call,
        ),
    }
  }
}

/** Calls that make things of the names that are taken in the first namespace. */
function making(it: Node, call: CallOptions): Calls {
  const overlay = { snapshotter: 'overlayfs', key: THEIRS.key }
  return {
    'Leases.Create': () => it.leases.create({ id: THEIRS.id }, call),
    'Containers.Create': () =>
      it.containers.create(
        {
          container: {
            id: THEIRS.id,
            runtime: RUNTIME,
            spec: SPEC,
            ...{ snapshotter: 'overlayfs', snapshotKey: THEIRS.key },
          },
        },
        call,
      ),
    'Images.Create': () =>
      it.images.create({ image: { name: THEIRS.name, target: { ...TARGET, digest: THEIRS.digest } } }, call),
    'Content.Write': () =>
      it.content.write(once({ action: WriteAction.STAT, ref: THEIRS.ref }), { ...call, lease: THEIRS.id }),
    'Snapshots.Prepare': () => it.snapshots.prepare(overlay, { ...call, lease: THEIRS.id }),
    'Snapshots.View': () => it.snapshots.view({ ...overlay, key: 'view' }, { ...call, lease: THEIRS.id }),
    'Store.Create': () =>
      it.sandboxes.create({ sandbox: { sandboxId: THEIRS.id, runtime: RUNTIME, sandboxer: 'shim' } }, call),
    'Mounts.Activate': () =>
      it.mounts.activate(
        { name: THEIRS.name, temporary: true, mounts: [{ type: 'tmpfs', source: 'tmpfs' }] },
        { ...call, lease: THEIRS.id },
      ),
    'Streaming.Stream': async () => (await openStream(it, call))[Symbol.asyncDispose](),
  }
}

function listing(it: Node, call: CallOptions): Calls {
  return {
    'Containers.List': async () => (await it.containers.list({}, call)).containers,
    'Containers.ListStream': () => it.containers.listStream({}, call),
    'Content.List': () => it.content.list({}, call),
    'Content.ListStatuses': async () => (await it.content.listStatuses({}, call)).statuses,
    'Images.List': async () => (await it.images.list({}, call)).images,
    'Leases.List': async () => (await it.leases.list({}, call)).leases,
    'Mounts.List': () => it.mounts.list({}, call),
    'Snapshots.List': () => it.snapshots.list({ snapshotter: 'overlayfs' }, call),
    'Store.List': async () => (await it.sandboxes.list({}, call)).list,
    'Tasks.List': async () => (await it.tasks.list({}, call)).tasks,
    'Tasks.Metrics': async () => (await it.tasks.metrics({}, call)).metrics,
  }
}

/** How many things each list has. */
async function listed(it: Node, call: CallOptions): Promise<Record<string, number>> {
  const counts = Object.entries(listing(it, call)).map(async ([name, list]) => {
    const found = list()
    const items = Symbol.asyncIterator in found ? await all(found) : await found
    return [name, (items as unknown[]).length] as const
  })
  return Object.fromEntries(await Promise.all(counts))
}

async function furnish(it: Node): Promise<AsyncDisposable> {
  await it.leases.create({ id: THEIRS.id }, it.call())
  const { 'Leases.Create': _, 'Containers.Create': __, ...calls } = making(it, it.call())
  expect(await codes(calls)).toEqual(same(Object.keys(calls), 'ok'))
  const held = it.call({ lease: THEIRS.id })
  await all(it.content.write(once({ action: WriteAction.COMMIT, ref: 'blob', data: Buffer.from(BYTES) }), held))
  const client = createClient({ address: it.address, namespace: it.namespace })
  const signal = AbortSignal.timeout(30_000)
  const container = await client.containers.create(
    { id: THEIRS.id, image: it.image, spec: { args: ['sleep', '1000'] } },
    signal,
  )
  const task = await client.tasks.create(container, { stdio: {} }, signal)
  await task.start(signal)
  await client[Symbol.asyncDispose]()
  return openStream(it, it.call())
}

/** A stream that stays until it is disposed of. */
async function openStream(it: Node, call: CallOptions): Promise<AsyncDisposable> {
  const hangup = new AbortController()
  const messages = untilAborted(streamInit(), hangup.signal)
  const stream = it.streaming.stream(messages, { ...call, signal: hangup.signal })[Symbol.asyncIterator]()
  await stream.next()
  return {
    async [Symbol.asyncDispose]() {
      hangup.abort()
      await stream.next().catch(() => undefined)
    },
  }
}

/** Holds everything of the first namespace from the other one, in every way there is. */
async function keepFromOutside(it: Node, call: CallOptions): Promise<void> {
  await it.leases.create({ id: 'keeper' }, call)
  for (const [type, id] of [
    ['content', THEIRS.digest],
    ['snapshots/overlayfs', THEIRS.key],
    ['ingests', THEIRS.ref],
  ] as const)
    await it.leases.addResource({ id: 'keeper', resource: { type, id } }, call)
  const labels = {
    'containerd.io/gc.ref.content': THEIRS.digest,
    'containerd.io/gc.ref.snapshot.overlayfs': THEIRS.key,
  }
  await it.images.create({ image: { name: 'keeper', labels, target: { ...TARGET, digest: THEIRS.digest } } }, call)
  const snapshot = { snapshotter: 'overlayfs', snapshotKey: THEIRS.key }
  await it.containers.create({ container: { id: 'keeper', labels, runtime: RUNTIME, spec: SPEC, ...snapshot } }, call)
}

async function removeAll(it: Node, call: CallOptions): Promise<void> {
  await it.containers.delete({ id: THEIRS.id }, call)
  await it.images.delete({ name: THEIRS.name }, call)
  await it.content.abort({ ref: THEIRS.ref }, call)
  for (const key of [THEIRS.key, 'view']) await it.snapshots.remove({ snapshotter: 'overlayfs', key }, call)
  await it.sandboxes.delete({ sandboxId: THEIRS.id }, call)
  await it.mounts.deactivate({ name: THEIRS.name }, call)
  await it.leases.delete({ id: THEIRS.id, sync: true }, call)
}

const SIGKILL = 9

/** A string field of a message, short enough for one byte of length. */
function field(number: number, text: string): Buffer {
  return Buffer.concat([Buffer.from([(number << 3) | 2, Buffer.byteLength(text)]), Buffer.from(text)])
}

function streamInit() {
  return { typeUrl: 'containerd.services.streaming.v1.StreamInit', value: field(1, THEIRS.stream) }
}

async function* untilAborted<T>(message: T, signal: AbortSignal): AsyncGenerator<T> {
  yield message
  await new Promise((resolve) => signal.addEventListener('abort', resolve))
}
