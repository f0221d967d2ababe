import { Worker } from 'node:worker_threads'
import type { HashAnswer, HashJob } from './hash-worker.ts'

/**
 * Threads that hash files of this process while they are written: the bytes are read back from the page cache, which is
 * cheaper than handing them over, and what an earlier process left is hashed in the same way.
 */
export interface Hashers extends AsyncDisposable {
  /** Starts with the first byte of an open file. Disposing must come before the file is closed. */
  follow(fd: number): Follower
}

/** The running sha256 of one file. */
export interface Follower extends AsyncDisposable {
  /** There are `size` bytes now; they are hashed now, or with the next ones. */
  grown(size: number, when: 'now' | 'later'): void
  /** Of the bytes up to the last `grown`, in hex. */
  digest(): Promise<string>
}

/** @param threads how many there are; the first one starts at once, the others when they are needed */
export function createHashers(threads: number): Hashers {
  const pool: Thread[] = [startThread()]
  let ids = 0
  return {
    follow(fd) {
      const id = ids++
      const thread = pool[id % threads] ?? startThread()
      pool[id % threads] = thread
      let to = 0
      const ask = (job: Partial<HashJob>) => thread.ask({ id, fd, to, answer: true, end: false, ...job })
      return {
        grown(size, when) {
          to = size
          if (when === 'now') thread.post({ id, fd, to, answer: false, end: false })
        },
        digest: () => ask({}),
        async [Symbol.asyncDispose]() {
          await ask({ end: true }).catch(() => undefined) // nobody wants this digest
        },
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(pool.map((thread) => thread[Symbol.asyncDispose]()))
    },
  }
}

interface Thread extends AsyncDisposable {
  post(job: HashJob): void
  ask(job: HashJob): Promise<string>
}

function startThread(): Thread {
  const worker = new Worker(new URL('./hash-worker.ts', import.meta.url), { trackUnmanagedFds: false })
  const waiting = new Map<number, PromiseWithResolvers<string>[]>()
  let broken: unknown
  worker.on('message', (answer: HashAnswer) => {
    const asked = waiting.get(answer.id)
    const first = asked?.shift()
    if (asked?.length === 0) waiting.delete(answer.id)
    if ('hex' in answer) first?.resolve(answer.hex)
    else first?.reject(answer.error)
  })
  const breakAll = (error: unknown): void => {
    broken ??= error
    for (const { reject } of [...waiting.values()].flat()) reject(broken)
    waiting.clear()
  }
  worker.on('error', breakAll)
  worker.on('exit', () => breakAll(new Error('A hashing thread has ended')))
  worker.unref() // it waits for work; work waits for it only where somebody asked
  return {
    post: (job) => worker.postMessage(job),
    async ask(job) {
      if (broken !== undefined) throw broken
      const asked = Promise.withResolvers<string>()
      waiting.set(job.id, [...(waiting.get(job.id) ?? []), asked])
      worker.postMessage(job)
      return await asked.promise
    },
    async [Symbol.asyncDispose]() {
      await worker.terminate()
    },
  }
}
