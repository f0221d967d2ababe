/** Pulls from a test registry into a real folder and store, with times short enough for tests. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { type Namespace, parseNamespace } from '@gantry/model/namespace'
import { parseReference } from '@gantry/model/reference'
import type { ImageRecord } from '../images.ts'
import { createProgress } from '../pull/progress.ts'
import { createPull } from '../pull/pull.ts'
import { createRegistry } from '../registry/registry.ts'
import { createTransport } from '../registry/transport.ts'
import { openTestParts, STALL_MS } from './parts.ts'
import { startRegistry } from './registry.ts'
import { noUnpacker } from './unpacker.ts'

interface PullOptions {
  readonly object: string
  readonly into: Namespace
  /** In another namespace, for a caller that may have nothing of others. */
  readonly isolatedIn: Namespace
  readonly headers: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

export async function openPuller({ stallMs = STALL_MS, downloads = 4 } = {}) {
  const stack = new AsyncDisposableStack()
  const parts = stack.use(await openTestParts({ stallMs }))
  const registry = stack.use(await startRegistry())
  const transport = stack.use(createTransport({ proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs }))
  const records = new Map<string, ImageRecord>()
  const namespace = parseNamespace('default')
  const run = createPull({
    ...parts,
    registry: createRegistry({ transport, now: Date.now, stallMs, backoffMs: 1 }),
    images: {
      put: async (_, image) => void records.set(image.name, image),
      target: () => Promise.reject(new Error('not asked for')),
    },
    unpacker: noUnpacker,
    verify: async () => undefined,
    downloads,
    connections: 3,
  })
  return {
    ...{ parts, registry, namespace },
    /** Pulls `app:1`, or what else the registry calls the image, as `my-image`. */
    async pull(options: Partial<PullOptions> = {}): Promise<void> {
      const { object = ':1', headers = {}, timeoutMs = 10_000, signal = AbortSignal.timeout(timeoutMs) } = options
      await using progress = createProgress(undefined)
      const reference = parseReference(`${registry.host}/app${object}`)
      const source = { reference, defaultScheme: '', headers }
      const request = { source, store: create(ImageStoreSchema, { name: 'my-image' }), platforms: [] }
      const { into = namespace, isolatedIn } = options
      const holder = { namespace: isolatedIn ?? into, lease: undefined, isolated: isolatedIn !== undefined }
      await run(request, holder, { progress, signal })
    },
    /** What is left of a pull besides whole blobs: when it failed nothing may be. */
    left: async () => ({
      records: [...records.keys()],
      ingests: [...parts.rows.ingests.list()],
      folders: await readdir(join(parts.root, 'content', 'ingest')),
      leases: [...parts.leases.held.keys()].filter((id) => id !== 'held'),
    }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

export type Puller = Awaited<ReturnType<typeof openPuller>>
