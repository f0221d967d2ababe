/**
 * A thread that hashes files while they grow, and receives some of them itself. One message after the other, so that what
 * is asked last is answered last.
 */
import { createHash, type Hash } from 'node:crypto'
import { readSync, writeSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import type { ReceiveNews, ReceiveOrder } from '../registry/receive.ts'
import type { Network } from '../registry/transport.ts'

const CHUNK = 256 * 1024 // bytes; stays in the cache of a core

/** Hash the file `fd` up to byte `to`; with `end` forget it. Answered where `answer` is set. */
export interface HashJob {
  readonly id: number
  readonly fd: number
  readonly to: number
  readonly answer: boolean
  readonly end: boolean
}

export type HashAnswer = { readonly id: number } & ({ readonly hex: string } | { readonly error: unknown })

export type ThreadOrder = HashJob | ReceiveOrder | 'prepare'
export type ThreadNews = HashAnswer | ReceiveNews

interface Running {
  readonly hash: Hash
  at: number
  error?: unknown
}

const { network }: { network: Network } = workerData
const running = new Map<number, Running>()
const buffer = Buffer.allocUnsafeSlow(CHUNK)
let receive: ((order: ReceiveOrder) => void) | undefined
let loading: Promise<void> | undefined

parentPort?.on('message', (order: ThreadOrder) => {
  if (order === 'prepare') void load()
  else if ('id' in order) hash(order)
  else if (receive) receive(order)
  else void load().then(() => receive?.(order))
})

/** What receives takes a while to load, and is not needed for most of what a node does. */
function load(): Promise<void> {
  loading ??= import('../registry/receive.ts').then(({ createReceiving }) => {
    receive = createReceiving({ network, post: (news) => post(news), write })
  })
  return loading
}

function hash(job: HashJob): void {
  const state = stateOf(job.id)
  if (!job.end) advance(state, job)
  if (job.answer) post(answerTo(job.id, state))
  if (job.end) running.delete(job.id)
}

function stateOf(id: number): Running {
  const state = running.get(id) ?? { hash: createHash('sha256'), at: 0 }
  running.set(id, state)
  return state
}

function advance(state: Running, { fd, to }: { readonly fd: number; readonly to: number }): void {
  try {
    while (state.at < to && state.error === undefined) {
      const read = readSync(fd, buffer, 0, Math.min(CHUNK, to - state.at), state.at)
      if (read === 0) throw new Error(`The file ends at ${state.at}, before ${to}`)
      state.hash.update(buffer.subarray(0, read))
      state.at += read
    }
  } catch (error) {
    state.error = error
  }
}

/**
 * Writes what was received, and hashes it while it is at hand; where it is not the next to be hashed, that comes later. What
 * is written over has to be hashed again: the digest is of what is in the file.
 */
function write({ id, fd }: { readonly id: number; readonly fd: number }, data: Uint8Array, at: number): void {
  for (let done = 0; done < data.length; ) done += writeSync(fd, data, done, data.length - done, at + done)
  if (at < stateOf(id).at) running.delete(id)
  const state = stateOf(id)
  if (state.at !== at || state.error !== undefined) return
  state.hash.update(data)
  state.at += data.length
}

function answerTo(id: number, { hash, error }: Running): HashAnswer {
  return error === undefined ? { id, hex: hash.copy().digest('hex') } : { id, error }
}

function post(news: ThreadNews): void {
  parentPort?.postMessage(news)
}
