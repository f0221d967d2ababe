import { createHash } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { syncfs } from '@gantry/linux/file'
import { parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { createExtraction } from './extract.ts'
import type { Applied, ApplyJob } from './job.ts'
import { plainStream } from './plain-stream.ts'
import { createTarParser } from './tar-parser.ts'
import { usageOfRoot } from './tree.ts'

/** The descriptors that have to be opened outside the jail. Disposing closes them. */
export interface Opened extends Disposable {
  readonly blob: number
  readonly root: number
  readonly lowers: readonly number[]
}

/** @throws {SystemError} as open(2); @throws {Fault} `failed-precondition` when the blob is no regular file */
export function openAll(job: ApplyJob): Opened {
  const opened: number[] = []
  const open = (path: string, flags: number): number => {
    const fd = openSync(path, flags)
    opened.push(fd)
    return fd
  }
  const close = (): void => {
    for (const fd of opened) closeSync(fd)
  }
  const folder = constants.O_RDONLY | constants.O_DIRECTORY
  try {
    const blob = open(job.blob, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    if (!fstatSync(blob).isFile())
      throw new Fault('failed-precondition', `Cannot extract "${job.blob}": it is no regular file`)
    return {
      blob,
      root: open(job.root, folder),
      lowers: job.lowers.map((lower) => open(lower, folder)),
      [Symbol.dispose]: close,
    }
  } catch (error) {
    close()
    throw error
  }
}

/**
 * Decompresses, hashes and lays out a layer in one pass. The thread is in the jail of `job.root` already.
 * @param check is called every few hundred kilobytes and every entry; it throws to stop
 */
export async function applyLayer(job: ApplyJob, { blob, root, lowers }: Opened, check: () => void): Promise<Applied> {
  const hash = createHash('sha256')
  let size = 0n
  using extraction = createExtraction({ overlay: job.overlay, lowers, limits: job.limits })
  const parser = createTarParser(
    {
      entry(entry) {
        check()
        extraction.entry(entry)
      },
      data: extraction.data,
      end: extraction.end,
    },
    job.limits,
  )
  for await (const chunk of plainStream(blob, job.detect, job.limits)) {
    check()
    hash.update(chunk)
    size += BigInt(chunk.length)
    parser.push(chunk)
  }
  parser.end()
  extraction.finish()
  if (job.sync) syncfs(root)
  const usage = job.measure ? usageOfRoot() : undefined
  return { digest: parseDigest(`sha256:${hash.digest('hex')}`), size, usage }
}
