import { Worker } from 'node:worker_threads'
import { Fault } from '@gantry/model/fault'
import type { Job, Order, Reply, Results } from './job.ts'

const MAX_WAITING = 1024 // jobs; more callers than that are told to come back
/** Short jobs that finish something do not queue behind those that begin something. */
const FIRST: ReadonlySet<Job['kind']> = new Set(['settle', 'sync', 'usage'])
const IDLE_MS = 30_000 // a thread without work costs about 10 MB
const CANCEL_MS = 5_000 // a job that does not notice its end by then loses its thread

/** Runs jobs in jailed threads. Disposing ends the threads. */
export interface Pool extends AsyncDisposable {
  /**
   * @throws {Fault} what the job found wrong; `cancelled` when `signal` aborts; `resource-exhausted` when too many wait
   */
  run<K extends Job['kind']>(job: Extract<Job, { kind: K }>, signal: AbortSignal): Promise<Results[K]>
  /** Would a job begin at once? */
  hasRoom(): boolean
  /** Threads that there are, and jobs that wait for one. */
  load(): { readonly threads: number; readonly waiting: number }
}

interface Thread {
  readonly worker: Worker
  timer: NodeJS.Timeout | undefined
}

/** @param size threads at most; they are made when needed */
export function createPool(size: number): Pool {
  const idle: Thread[] = []
  const waiting: ((thread: Thread) => void)[] = []
  const threads = new Set<Thread>()
  let most = size

  function start(): Thread {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { trackUnmanagedFds: false })
    const thread: Thread = { worker, timer: undefined }
    worker.on('error', () => {}) // whoever waits for a reply listens too; an idle thread may die unheard
    worker.once('exit', () => forget(thread))
    threads.add(thread)
    return thread
  }

  function forget(thread: Thread): void {
    clearTimeout(thread.timer)
    threads.delete(thread)
    const place = idle.indexOf(thread)
    if (place >= 0) idle.splice(place, 1)
    const next = waiting.length > 0 && threads.size < most ? waiting.shift() : undefined
    next?.(start())
  }

  async function acquire(kind: Job['kind']): Promise<Thread> {
    const thread = idle.pop()
    if (thread) {
      clearTimeout(thread.timer)
      thread.worker.ref()
      return thread
    }
    if (threads.size < most) return start()
    if (waiting.length >= MAX_WAITING)
      throw new Fault('resource-exhausted', `Cannot start the work: ${MAX_WAITING} jobs wait already`)
    return new Promise((resolve) => {
      if (FIRST.has(kind)) waiting.unshift(resolve)
      else waiting.push(resolve)
    })
  }

  function release(thread: Thread): void {
    const next = waiting.shift()
    if (next) {
      next(thread)
      return
    }
    thread.worker.unref()
    thread.timer = setTimeout(() => void thread.worker.terminate(), IDLE_MS)
    thread.timer.unref()
    idle.push(thread)
  }

  return {
    async run(job, signal) {
      if (signal.aborted) throw cancelled()
      const thread = await acquire(job.kind)
      const reply = await ask(thread.worker, job, signal)
      if (reply.reusable) release(thread)
      else void thread.worker.terminate()
      if ('fault' in reply) throw new Fault(reply.fault.code, reply.fault.message)
      if ('crash' in reply) throw new Error(reply.crash)
      return reply.result as Results[typeof job.kind]
    },
    hasRoom: () => idle.length > 0 || threads.size < most,
    load: () => ({ threads: threads.size, waiting: waiting.length }),
    async [Symbol.asyncDispose]() {
      most = 0
      await Promise.all([...threads].map(({ worker }) => worker.terminate()))
    },
  }
}

/** Sends one order and waits for its reply; a thread that dies, or hangs after its end was asked for, replies as well. */
async function ask(worker: Worker, job: Job, signal: AbortSignal): Promise<Reply> {
  const flag = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
  const { promise, resolve } = Promise.withResolvers<Reply>()
  let timer: NodeJS.Timeout | undefined
  const crash = (state: string): void => resolve({ reusable: false, crash: `The extraction thread ${state}` })
  const onError = (error: unknown): void => crash(`failed: ${error}`)
  const onExit = (): void => crash('ended')
  const cancel = (): void => {
    Atomics.store(flag, 0, 1)
    timer = setTimeout(() => {
      resolve({ reusable: false, fault: { code: 'cancelled', message: 'The call was cancelled' } })
    }, CANCEL_MS)
  }
  worker.on('message', resolve).on('error', onError).on('exit', onExit)
  signal.addEventListener('abort', cancel)
  const order: Order = { job, cancelled: flag }
  worker.postMessage(order)
  if (signal.aborted) cancel()
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', cancel)
    worker.off('message', resolve).off('error', onError).off('exit', onExit)
  }
}

function cancelled(): Fault {
  return new Fault('cancelled', 'The call was cancelled')
}
