import { type FileHandle, open } from 'node:fs/promises'
import type { FollowResponse } from '@gantry/api/gantry/content/v1/blobs_pb'
import type { Applied, ApplyJob } from './extract/job.ts'
import { createMark, type Mark, setMark } from './extract/mark.ts'
import type { Pool } from './extract/pool.ts'

/** What to do with a blob. */
export type Laying = Omit<ApplyJob, 'kind' | 'blob' | 'arriving'>

export interface Arrived {
  /** Absolute path of the blob, whole and proven. */
  readonly path: string
  /**
   * What came of the bytes as they came: `failed` also when they were others than the blob's own, as may happen before they
   * are proven; then it is to be done again. `not tried` has touched nothing.
   */
  readonly early: Applied | 'failed' | 'not tried'
}

/**
 * Follows a blob until it is whole, and lays it out meanwhile if a thread is free for that. When it throws, or has failed,
 * something may lie in the folder, but nobody is at work there any more.
 *
 * @throws {Fault} `aborted` when nobody brings the blob any more
 */
export async function layOutEarly(
  job: Laying,
  follow: AsyncIterable<FollowResponse>,
  { pool, signal }: { pool: Pool; signal: AbortSignal },
): Promise<Arrived> {
  await using stack = new AsyncDisposableStack()
  let run: Run | undefined
  for await (const { path, bytes, done } of follow) {
    if (done) return { path, early: run ? await run.finish(bytes) : 'not tried' }
    run ??= stack.use(await start(job, path, { pool, signal }))
    run?.grown(bytes)
  }
  throw new Error('content has stopped to tell how a blob grows')
}

/** Disposing stops it, and waits until it has. */
interface Run extends AsyncDisposable {
  grown(bytes: bigint): void
  finish(bytes: bigint): Promise<Applied | 'failed'>
}

/** Undefined without a free place, and when the file is gone: the blob has just become whole, or nobody brings it any more. */
async function start(
  job: Laying,
  path: string,
  { pool, signal }: { pool: Pool; signal: AbortSignal },
): Promise<Run | undefined> {
  using stack = new DisposableStack()
  if (!stack.use(pool.placeToFollow())) return undefined
  const file = await openUnlessGone(path)
  if (!file) return undefined
  const place = stack.move()
  const mark: Mark = createMark()
  const blob = `/proc/self/fd/${file.fd}` // its own name goes when it is whole
  const applied = pool.run({ kind: 'apply', ...job, blob, arriving: mark }, signal).catch(() => 'failed' as const)
  return {
    grown: (bytes) => setMark(mark, bytes, 'partial'),
    async finish(bytes) {
      setMark(mark, bytes, 'whole')
      return await applied
    },
    async [Symbol.asyncDispose]() {
      setMark(mark, 0n, 'stale')
      await applied
      await file.close()
      place.dispose()
    },
  }
}

async function openUnlessGone(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
