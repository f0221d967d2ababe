/** A thread that hashes files while they grow. One message after the other, so that what is asked last is answered last. */
import { createHash, type Hash } from 'node:crypto'
import { readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'

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

interface Running {
  readonly hash: Hash
  at: number
  error?: unknown
}

const running = new Map<number, Running>()
const buffer = Buffer.allocUnsafeSlow(CHUNK)

parentPort?.on('message', (job: HashJob) => {
  const state = running.get(job.id) ?? { hash: createHash('sha256'), at: 0 }
  running.set(job.id, state)
  if (!job.end) advance(state, job)
  if (job.answer) parentPort?.postMessage(answerTo(job.id, state))
  if (job.end) running.delete(job.id)
})

function advance(state: Running, { fd, to }: HashJob): void {
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

function answerTo(id: number, { hash, error }: Running): HashAnswer {
  return error === undefined ? { id, hex: hash.copy().digest('hex') } : { id, error }
}
