/**
 * Records of a large node, written into the stores while no process has them open, as the owners lay them out (`rows.ts`
 * of each app). Files and folders are there, too, but empty.
 *
 *   image n -> manifest n -> config n -> snapshot n          container n -> snapshot "box-n" -> snapshot n
 *                         -> layer n
 */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { ContainerSchema } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { InfoSchema } from '@gantry/api/containerd/services/content/v1/content_pb'
import { ImageSchema } from '@gantry/api/containerd/services/images/v1/images_pb'
import { NamespaceSchema } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { bytesCodec, jsonCodec, messageCodec } from '@gantry/store/codec'
import { openStore, type Store } from '@gantry/store/store'

export const NAMESPACE = 'scale'
const SPEC = { typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec', value: Buffer.alloc(4000, ' ') }
const AT_MS = 1_700_000_000_000
const GROUP = 5000 // records a transaction
const REF = 'containerd.io/gc.ref'

export interface Amounts {
  readonly images: number
  readonly containers: number
  /** So many of the images have no record any more: what is theirs is garbage. */
  readonly orphans: number
}

/** @param root the root folder of a node that does not run */
export async function fillNode(root: string, amounts: Amounts): Promise<void> {
  await fillMetadata(join(root, 'metadata'), amounts)
  await fillContent(join(root, 'content'), amounts)
  await fillSnapshots(join(root, 'snapshots'), amounts)
}

export function imageName(n: number): string {
  return `registry.example/team/image-${n}:1`
}

export function containerId(n: number): string {
  return `box-${n}`
}

export function digestOf(what: 'manifest' | 'config' | 'layer' | 'chain', n: number): string {
  return `sha256:${createHash('sha256').update(`${what}/${n}`).digest('hex')}`
}

async function fillMetadata(folder: string, { images, containers, orphans }: Amounts): Promise<void> {
  await using store = openStore(join(folder, 'records'))
  const stamps = { createdAt: timestampFromMs(AT_MS), updatedAt: timestampFromMs(AT_MS) }
  const namespaces = store.table('namespaces', messageCodec(NamespaceSchema))
  const imageRows = store.table('images', messageCodec(ImageSchema))
  const containerRows = store.table('containers', messageCodec(ContainerSchema))
  await store.write(() => namespaces.put([NAMESPACE], create(NamespaceSchema, { name: NAMESPACE })))
  await fill(store, images - orphans, (n) => {
    const target = {
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: digestOf('manifest', n),
      size: 500n,
    }
    imageRows.put([NAMESPACE, imageName(n)], create(ImageSchema, { name: imageName(n), target, ...stamps }))
  })
  await fill(store, containers, (n) => {
    const id = containerId(n)
    const rest = { runtime: { name: 'io.containerd.runc.v2' }, spec: SPEC, snapshotter: 'overlayfs', snapshotKey: id }
    containerRows.put([NAMESPACE, id], create(ContainerSchema, { id, image: imageName(n), ...rest, ...stamps }))
  })
}

async function fillContent(folder: string, { images }: Amounts): Promise<void> {
  await using store = openStore(join(folder, 'records'))
  const blobs = store.table('blobs', messageCodec(InfoSchema))
  const holders = store.table('holders', bytesCodec)
  const files = join(folder, 'blobs', 'sha256')
  mkdirSync(files, { recursive: true, mode: 0o700 })
  const stamps = { createdAt: timestampFromMs(AT_MS), updatedAt: timestampFromMs(AT_MS) }
  const put = (digest: string, labels: Record<string, string>): void => {
    blobs.put([NAMESPACE, digest], create(InfoSchema, { digest, size: 500n, labels, ...stamps }))
    holders.put([digest, NAMESPACE], new Uint8Array())
    writeFileSync(join(files, digest.slice('sha256:'.length)), '')
  }
  await fill(store, images, (n) => {
    const [config, layer] = [digestOf('config', n), digestOf('layer', n)]
    put(digestOf('manifest', n), { [`${REF}.content.config`]: config, [`${REF}.content.l.0`]: layer })
    put(config, { [`${REF}.snapshot.overlayfs`]: digestOf('chain', n) })
    put(layer, { 'containerd.io/distribution.source.registry.example': 'team/image' })
  })
}

/** The last of them belong to containers. */
async function fillSnapshots(folder: string, { images, containers }: Amounts): Promise<void> {
  await using store = openStore(join(folder, 'records'))
  const rows = store.table('snapshots', jsonCodec<object>())
  const children = store.table('children', jsonCodec<true>())
  const counters = store.table('counters', jsonCodec<number>())
  const folders = join(folder, 'overlayfs')
  mkdirSync(folders, { recursive: true, mode: 0o700 })
  const put = (id: number, key: string, rest: object): void => {
    const row = { id, labels: {}, createdAt: AT_MS, updatedAt: AT_MS, parent: null, size: null, inodes: null, ...rest }
    rows.put([NAMESPACE, 'overlayfs', key], row)
    mkdirSync(join(folders, `${id}`), { mode: 0o700 })
  }
  const committed = images - containers
  await fill(store, committed, (n) =>
    put(n + 1, digestOf('chain', n), { kind: 'committed', size: '4096', inodes: '1' }),
  )
  await fill(store, containers, (n) => {
    put(committed + n + 1, containerId(n), { kind: 'active', parent: digestOf('chain', n) })
    children.put([`${n + 1}`, `${committed + n + 1}`], true)
  })
  await store.write(() => counters.put(['id'], images))
}

async function fill(store: Store, count: number, put: (n: number) => void): Promise<void> {
  for (let from = 0; from < count; from += GROUP)
    await store.write(() => {
      for (let n = from; n < Math.min(from + GROUP, count); n++) put(n)
    })
}
