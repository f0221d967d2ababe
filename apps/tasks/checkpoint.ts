import { spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import { type Content, WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { type Digest, parseDigest } from '@gantry/model/digest'
import { Fault, ignoring } from '@gantry/model/fault'
import type { CallOptions, Client } from '@gantry/rpc/client'
import type { CheckpointWish } from './runtime/checkpoint.ts'
import type { ChildEnvironment } from './runtime/runc.ts'
import type { Tasks } from './tasks.ts'

export const DUMP = 'application/vnd.containerd.container.criu.checkpoint.criu.tar'
const SPEC = 'application/vnd.containerd.container.checkpoint.config.v1+proto'
const ABORT_MS = 5000

export interface CheckpointParts {
  readonly tasks: Pick<Tasks, 'checkpoint'>
  readonly content: Client<typeof Content>
  /** Folder for dumps on their way; see `sweepCheckpoints`. Not in memory: a dump is as large as the process. */
  readonly folder: string
  readonly env: ChildEnvironment
}

export interface CheckpointRequest {
  readonly namespace: string
  readonly id: string
  readonly wish: CheckpointWish
  /** Of the container's record. */
  readonly spec: Any | undefined
}

export interface CheckpointBlob {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: bigint
}

/**
 * Makes checkpoints into content: an archive of what criu wrote, then the specification (behaviour facts, 9.2). Call it under a
 * lease, or the blobs are collected before anybody refers to them.
 */
export function createCheckpoints(parts: CheckpointParts) {
  return async ({ namespace, id, wish, spec }: CheckpointRequest, call: CallOptions): Promise<CheckpointBlob[]> => {
    mkdirSync(parts.folder, { recursive: true, mode: 0o700 })
    const folder = mkdtempSync(join(parts.folder, 'dump-'))
    try {
      await parts.tasks.checkpoint(namespace, id, { ...wish, imagePath: folder })
      const dump = await upload(parts.content, DUMP, archive(folder, parts.env), call)
      return [dump, await upload(parts.content, SPEC, [toBinary(AnySchema, spec ?? create(AnySchema))], call)]
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
}

/** A plain archive of the files in a folder, as Debian's tar makes it. @throws {Fault} `internal` with what tar says */
async function* archive(folder: string, env: ChildEnvironment): AsyncIterable<Uint8Array> {
  const tar = spawn('tar', ['--create', '--directory', folder, '--', ...readdirSync(folder)], {
    env: { ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let complaint = ''
  tar.stderr.on('data', (chunk: Buffer) => {
    complaint = `${complaint}${chunk}`.slice(0, 1000)
  })
  const ended = once(tar, 'exit')
  ended.catch(() => undefined) // told below
  try {
    yield* tar.stdout
    const [code] = await ended
    if (code !== 0)
      throw new Fault('internal', `Cannot pack the checkpoint: tar ended with ${code}: ${complaint.trim()}`)
  } finally {
    tar.kill()
  }
}

/** Stores a blob; that it is there already is well. */
async function upload(
  content: Client<typeof Content>,
  mediaType: string,
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  call: CallOptions,
): Promise<CheckpointBlob> {
  const ref = `gantry-checkpoint-${randomUUID()}`
  const hash = createHash('sha256')
  let [size, digest] = [0n, '']
  async function* requests() {
    for await (const data of bytes) {
      yield { action: WriteAction.WRITE, ref, offset: size, data }
      hash.update(data)
      size += BigInt(data.length)
    }
    digest = `sha256:${hash.digest('hex')}`
    yield { action: WriteAction.COMMIT, ref, offset: size, total: size, expected: digest }
  }
  try {
    await ignoring('already-exists', Array.fromAsync(content.write(requests(), call)))
  } catch (error) {
    const abort = content.abort({ ref }, { ...call, signal: AbortSignal.timeout(ABORT_MS) })
    await abort.catch(() => undefined) // it may not have come that far
    throw error
  }
  return { mediaType, digest: parseDigest(digest), size }
}
