import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import type { Descriptor } from '@gantry/api/containerd/types/descriptor_pb'
import { isSystemError } from '@gantry/linux/system'
import { parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { CallOptions, Client } from '@gantry/rpc/client'
import { DUMP } from './checkpoint.ts'
import { readFlatTar } from './flat-tar.ts'
import type { Registry } from './registry.ts'
import { requireRestore } from './runtime/checkpoint.ts'
import type { Host } from './runtime/choose.ts'
import type { Restore, RuntimeChoice } from './runtime/runtime.ts'

const MAX_FILES = 65_536 // criu writes some tens, and a few more for each process

export interface RestoreParts {
  readonly content: Client<typeof Content>
  readonly host: Pick<Host, 'find'>
  /** Folder of what is unpacked; not in memory, for it is as large as the processes were. */
  readonly folder: string
}

/** What a client says of the checkpoint. */
export interface RestoreWish {
  readonly checkpoint: Descriptor | undefined
  readonly paths: { readonly images: string; readonly workPath: string }
}

/**
 * Finds what a task is to go on from (behaviour facts, 9.2): a folder that its client names, or a blob, which is unpacked. No
 * archive is larger than its blob, so the room for that bounds it. Annotations of the descriptor name no folder, other than for
 * containerd's own CRI: they come with the image of the checkpoint, from whoever made that.
 *
 * @throws {Fault} `failed-precondition` where this host or the runtime cannot restore, `unknown` for a blob of another kind,
 *   `not-found`, `invalid-argument` for one that holds more than plain files, `resource-exhausted` when there is no room for them
 */
export function createRestores({ content, host, folder }: RestoreParts) {
  return async (runtime: RuntimeChoice, { checkpoint, paths }: RestoreWish, call: CallOptions): Promise<Restore> => {
    const { images, workPath } = paths
    if (images !== '' && !images.startsWith('/'))
      throw new Fault('invalid-argument', `Cannot restore from "${images.slice(0, 200)}": it is not an absolute path`)
    if (images === '' && checkpoint?.mediaType !== DUMP)
      throw new Fault('unknown', `unsupported checkpoint type "${(checkpoint?.mediaType ?? '').slice(0, 200)}"`)
    if (!runtime.shim) await requireRestore(runtime.binary, host)
    if (images !== '') return { images, workPath, owned: false }
    const digest = parseDigest(checkpoint?.digest ?? '')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const restore = { images: mkdtempSync(join(folder, 'restore-')), workPath, owned: true }
    try {
      await unpack(readBlob(content, digest, call), restore.images, call.signal)
      return restore
    } catch (error) {
      removeImages(restore)
      throw error
    }
  }
}

/** When it has served. What cannot be removed goes at the next start. */
export function removeImages(restore: Restore | null | undefined): void {
  try {
    if (restore?.owned) rmSync(restore.images, { recursive: true, force: true })
  } catch (error) {
    if (!isSystemError(error)) throw error
  }
}

/** Removes what a crash left in the folder of checkpoints: all but what tasks are still to go on from. */
export function sweepCheckpoints(folder: string, registry: Pick<Registry, 'all'>): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const used = new Set(registry.all().map(({ restore }) => restore?.images))
  for (const name of readdirSync(folder)) {
    const path = join(folder, name)
    if (!used.has(path)) rmSync(path, { recursive: true, force: true })
  }
}

async function* readBlob(
  content: Client<typeof Content>,
  digest: string,
  call: CallOptions,
): AsyncGenerator<Uint8Array> {
  for await (const { data } of content.read({ digest }, call)) yield data
}

async function unpack(bytes: AsyncIterable<Uint8Array>, folder: string, signal: AbortSignal): Promise<void> {
  let count = 0
  for await (const file of readFlatTar(bytes, signal)) {
    if (++count > MAX_FILES)
      throw new Fault('invalid-argument', `Cannot unpack the checkpoint: it has more than ${MAX_FILES} files`)
    try {
      await using target = await open(join(folder, file.name), 'wx', 0o600)
      for await (const chunk of file.bytes) await target.writeFile(chunk)
    } catch (cause) {
      throw toFault(cause)
    }
  }
}

function toFault(cause: unknown): unknown {
  if (isSystemError(cause, 'ENOSPC', 'EDQUOT', 'EFBIG'))
    return new Fault('resource-exhausted', `Cannot unpack the checkpoint: ${cause.message}`, { cause })
  if (isSystemError(cause, 'EEXIST'))
    return new Fault('invalid-argument', 'Cannot unpack the checkpoint: it has two files of one name', { cause })
  return cause
}
