import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { type Courier, createCourier, type ReceivingThread } from '../registry/courier.ts'
import type { Network } from '../registry/transport.ts'
import type { HashAnswer, HashJob, ThreadNews, ThreadOrder } from './hash-worker.ts'

/**
 * Threads that hash files of this process while they are written: the bytes are read back from the page cache, which is
 * cheaper than handing them over, and what an earlier process left is hashed in the same way. What comes from a registry
 * they receive, write and hash on their own.
 */
export interface Hashers extends AsyncDisposable {
  /** Starts with the first byte of an open file. Disposing must come before the file is closed. */
  follow(fd: number): Follower
  /** Gets all threads ready to receive: that takes a tenth of a second or two. */
  prepare(): void
}

/** The running sha256 of one file. */
export interface Follower extends AsyncDisposable {
  /** There are `size` bytes now; they are hashed now, or with the next ones. */
  grown(size: number, when: 'now' | 'later'): void
  /** Of the bytes up to the last `grown`, in hex. */
  digest(): Promise<string>
  /** Receives more of the file. */
  readonly courier: Courier
}

/**
 * A thread that ends by itself is replaced: whose files it had fail, and are hashed again by the next writer.
 *
 * @param threads how many there are; the first one starts at once, the others when they are needed
 */
export function createHashers(threads: number, network: Network): Hashers {
  const pool: Thread[] = [startThread(network)]
  const threadAt = (at: number): Thread => {
    const known = pool[at]
    const thread = known?.isAlive() ? known : startThread(network)
    pool[at] = thread
    return thread
  }
  let ids = 0
  return {
    follow(fd) {
      const id = ids++
      const thread = threadAt(id % threads)
      let to = 0
      const ask = (job: Partial<HashJob>) => thread.ask({ id, fd, to, answer: true, end: false, ...job })
      return {
        grown(size, when) {
          to = size
          if (when === 'now') thread.post({ id, fd, to, answer: false, end: false })
        },
        digest: () => ask({}),
        courier: createCourier(thread, { id, fd }),
        async [Symbol.asyncDispose]() {
          await ask({ end: true }).catch(() => undefined) // nobody wants this digest
        },
      }
    },
    prepare() {
      for (let at = 0; at < threads; at++) threadAt(at).post('prepare')
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(pool.map((thread) => thread[Symbol.asyncDispose]()))
    },
  }
}

interface Thread extends ReceivingThread, AsyncDisposable {
  isAlive(): boolean
  post(order: ThreadOrder): void
  ask(job: HashJob): Promise<string>
}

function startThread(network: Network): Thread {
  const worker = new Worker(new URL(`./hash-worker${extname(import.meta.filename)}`, import.meta.url), {
    ...{ trackUnmanagedFds: false, workerData: { network }, resourceLimits: { maxYoungGenerationSizeMb: 4 } },
  })
  const waiting = new Map<number, PromiseWithResolvers<string>[]>()
  const hearing = new Map<number, Parameters<ReceivingThread['converse']>[0]>()
  let asks = 0
  let broken: { readonly error: unknown } | undefined
  worker.on('message', (news: ThreadNews) => {
    if ('ask' in news) hearing.get(news.ask)?.(news)
    else settle(waiting, news)
  })
  const breakAll = (error: unknown): void => {
    broken ??= { error }
    for (const { reject } of [...waiting.values()].flat()) reject(broken.error)
    for (const hear of hearing.values()) hear({ broken: broken.error })
    waiting.clear()
  }
  worker.on('error', breakAll)
  worker.on('exit', () => breakAll(new Error('A hashing thread has ended')))
  worker.unref() // it waits for work; work waits for it only where somebody asked
  return {
    isAlive: () => broken === undefined,
    post: (order) => worker.postMessage(order),
    async ask(job) {
      if (broken) throw broken.error
      const asked = Promise.withResolvers<string>()
      waiting.set(job.id, [...(waiting.get(job.id) ?? []), asked])
      worker.postMessage(job)
      return await asked.promise
    },
    converse(hear) {
      const ask = asks++
      if (broken) hear({ broken: broken.error })
      hearing.set(ask, hear)
      return { ask, [Symbol.dispose]: () => void hearing.delete(ask) }
    },
    async [Symbol.asyncDispose]() {
      await worker.terminate()
    },
  }
}

/** Gives the answer to whoever asked first. */
function settle(waiting: Map<number, PromiseWithResolvers<string>[]>, answer: HashAnswer): void {
  const asked = waiting.get(answer.id)
  const first = asked?.shift()
  if (asked?.length === 0) waiting.delete(answer.id)
  if ('hex' in answer) first?.resolve(answer.hex)
  else first?.reject(answer.error)
}
