import { createHash } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { syncfs } from '@gantry/linux/file'
import { openGunzip } from '@gantry/linux/gunzip'
import { parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { createExtraction } from './extract.ts'
import type { Applied, ApplyJob, Spent } from './job.ts'
import { SETTLED, settle } from './loose.ts'
import { plainStream } from './plain-stream.ts'
import { createTarParser } from './tar-parser.ts'
import { usageOfRoot } from './tree.ts'

const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY

/** The descriptors that have to be opened outside the jail. Disposing closes them. */
export interface Opened extends Disposable {
  readonly blob: number
  readonly root: number
  readonly lowers: readonly number[]
}

/** @throws {SystemError} as open(2); @throws {Fault} `failed-precondition` when the blob is no regular file */
export function openAll(job: ApplyJob): Opened {
  const undo = new DisposableStack()
  try {
    const blob = opened(job.blob, constants.O_RDONLY | constants.O_NONBLOCK, undo)
    if (!fstatSync(blob).isFile())
      throw new Fault('failed-precondition', `Cannot extract "${job.blob}": it is no regular file`)
    const root = opened(job.root, FOLDER, undo)
    return { blob, root, lowers: job.lowers.map((lower) => opened(lower, FOLDER, undo)), ...closing(undo) }
  } catch (error) {
    undo.dispose()
    throw error
  }
}

/** The roots of layers. @throws {SystemError} as open(2) */
export function openFolders(paths: readonly string[]): Disposable & { readonly folders: readonly number[] } {
  const undo = new DisposableStack()
  try {
    return { folders: paths.map((path) => opened(path, FOLDER, undo)), ...closing(undo) }
  } catch (error) {
    undo.dispose()
    throw error
  }
}

/** Where an archive goes. @throws {SystemError} as open(2) */
export function openOutput(path: string): Disposable & { readonly fd: number } {
  const fd = openSync(path, constants.O_WRONLY)
  return { fd, [Symbol.dispose]: () => closeSync(fd) }
}

/** What a job tells, and asks, while it works. */
export interface Hooks {
  /** Is called every few hundred kilobytes and every entry; it throws to stop. */
  readonly check: () => void
  /** Hears when the job has waited for the network for a while, and when it does not any more. */
  readonly rest: (waits: boolean) => void
}

/**
 * Decompresses, hashes and lays out a layer in one pass. The thread is in the jail of `job.root` already.
 */
export async function applyLayer(
  job: ApplyJob,
  { blob, root, lowers }: Opened,
  { check, rest }: Hooks,
): Promise<Applied> {
  const hash = createHash('sha256')
  let size = 0n
  const below = job.overlay && lowers.length === 0 ? 'later' : lowers
  using extraction = createExtraction({ overlay: job.overlay, limits: job.limits, lowers: below })
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
  const spent = { wait: 0, hash: 0, write: 0, measure: 0 }
  let last = performance.now()
  const lap = (stage: keyof Spent): void => {
    const now = performance.now()
    spent[stage] += now - last
    last = now
  }
  const reading = { detect: job.detect, limits: job.limits, openGunzip }
  for await (const chunk of plainStream({ fd: blob, arriving: job.arriving, rest }, reading)) {
    lap('wait')
    check()
    hash.update(chunk)
    size += BigInt(chunk.length)
    lap('hash')
    parser.push(chunk)
    lap('write')
  }
  parser.end()
  const left = extraction.finish()
  if (lowers.length > 0) settle(left, lowers)
  if (job.sync) syncfs(root)
  lap('write')
  const usage = job.measure ? usageOfRoot(check) : { size: 0n, inodes: 0n }
  lap('measure')
  const digest = parseDigest(`sha256:${hash.digest('hex')}`)
  return { digest, size, usage, loose: lowers.length > 0 ? SETTLED : left, spent }
}

function opened(path: string, flags: number, undo: DisposableStack): number {
  const fd = openSync(path, flags)
  undo.defer(() => closeSync(fd))
  return fd
}

function closing(undo: DisposableStack): Disposable {
  return { [Symbol.dispose]: () => undo.dispose() }
}
