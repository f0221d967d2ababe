import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { Fault } from '@gantry/model/fault'
import type { Job, Message, Order, Reply, Results } from './job.ts'
import { createTurns } from './turns.ts'

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
  /** A place for a job that follows a blob on its way, when one is free that would begin at once. Disposing leaves it. */
  placeToFollow(): Disposable | undefined
  /** How busy it is now. */
  load(): { readonly threads: number; readonly waiting: number }
}

interface Thread {
  readonly worker: Worker
  timer: NodeJS.Timeout | undefined
}

/**
 * More jobs at a time than there are cores only get into each other's way. A job that follows a blob on its way does not
 * count while it waits for the network, so that it keeps nobody from work.
 *
 * @param size jobs that work at a time, and that may follow blobs; threads are made when needed
 */
export function createPool(size: number): Pool {
  const idle: Thread[] = []
  const threads = new Set<Thread>()
  const turns = createTurns(size)
  let following = 0

  function take(): Thread {
    const thread = idle.pop()
    if (!thread) return start()
    clearTimeout(thread.timer)
    thread.worker.ref()
    return thread
  }

  /** The host may have no room for one more thread: the turn is for whoever comes when it has. */
  function takeOrGive(): Thread {
    try {
      return take()
    } catch (error) {
      turns.give()
      throw error
    }
  }

  function start(): Thread {
    const worker = new Worker(new URL(`./worker${extname(import.meta.filename)}`, import.meta.url), {
      trackUnmanagedFds: false,
    })
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
  }

  function keep(thread: Thread): void {
    thread.worker.unref()
    thread.timer = setTimeout(() => void thread.worker.terminate(), IDLE_MS)
    thread.timer.unref()
    idle.push(thread)
  }

  async function work(thread: Thread, job: Job, signal: AbortSignal): Promise<Reply> {
    let rests = false
    const reply = await ask(thread.worker, { job, signal }, (waits) => {
      rests = waits
      if (waits) turns.give()
      else turns.insist()
    })
    const end = (): void => {
      if (!rests) turns.give()
    }
    if (reply.reusable) {
      keep(thread)
      end()
    } else void thread.worker.terminate().then(end) // which may take as long as a system call
    return reply
  }

  return {
    async run(job, signal) {
      await turns.take(FIRST.has(job.kind), signal)
      const reply = await work(takeOrGive(), job, signal)
      if ('fault' in reply) throw new Fault(reply.fault.code, reply.fault.message)
      if ('crash' in reply) throw new Error(reply.crash)
      return reply.result as Results[typeof job.kind]
    },
    placeToFollow() {
      if (!turns.isFree() || following >= size) return undefined
      following++
      return {
        [Symbol.dispose]() {
          following--
        },
      }
    },
    load: () => ({ threads: threads.size, waiting: turns.waiting() }),
    async [Symbol.asyncDispose]() {
      turns.close()
      await Promise.all([...threads].map(({ worker }) => worker.terminate()))
    },
  }
}

interface Asking {
  readonly job: Job
  readonly signal: AbortSignal
}

/** Sends one order and waits for its reply; a thread that dies, or hangs after its end was asked for, replies as well. */
async function ask(worker: Worker, { job, signal }: Asking, onRest: (waits: boolean) => void): Promise<Reply> {
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
  const onMessage = (message: Message): void => {
    if ('waits' in message) onRest(message.waits)
    else resolve(message)
  }
  worker.on('message', onMessage).on('error', onError).on('exit', onExit)
  signal.addEventListener('abort', cancel)
  const order: Order = { job, cancelled: flag }
  worker.postMessage(order)
  if (signal.aborted) cancel()
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', cancel)
    worker.off('message', onMessage).off('error', onError).off('exit', onExit)
  }
}
