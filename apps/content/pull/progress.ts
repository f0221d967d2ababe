import { setTimeout as sleep } from 'node:timers/promises'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import type { Descriptor } from '@gantry/model/descriptor'
import { refKey } from '@gantry/model/refkey'
import type { AnyInit } from '../streaming/streams.ts'

const POLL_MS = 300
const FLUSH_MS = 1000 // how long a client that does not read can hold up the end

/** The words that clients know (behaviour facts, 15.2). */
export type Phase = 'waiting' | 'downloading' | 'uploading' | 'already exists' | 'complete' | 'extracting' | 'extracted'

/** Tells a client how far a transfer is. Disposing sends what is left, then no more. */
export interface Progress extends AsyncDisposable {
  /** A line of its own, such as `Resolving from ...`. */
  say(event: string, name?: string): void
  /** An object that will be fetched, below `parents`: names of other objects, or of the root line. */
  add(descriptor: Descriptor, parents: readonly string[]): void
  /** Unpacking begins before a layer is here; clients are told of it afterwards. */
  set(descriptor: Descriptor, phase: Phase): void
  /** Bytes of the object that are here. */
  at(descriptor: Descriptor, offset: bigint): void
}

interface Line {
  readonly descriptor: Descriptor
  readonly parents: Set<string>
  phase: Phase
  /** How far it is unpacked, while it is not here. */
  next: Phase | undefined
  offset: bigint
  changed: boolean
}

/** @param send gives the client a message; it may wait for the client. Nobody listens when it is undefined. */
export function createProgress(send: ((message: AnyInit) => Promise<void>) | undefined): Progress {
  const lines = new Map<string, Line>()
  const stop = new AbortController()
  let sending = Promise.resolve()
  const post = (init: MessageInitShape<typeof ProgressSchema>): void => {
    const value = toBinary(ProgressSchema, create(ProgressSchema, init))
    sending = sending.then(() => send?.({ typeUrl: ProgressSchema.typeName, value }))
  }
  const flush = (): void => {
    for (const line of lines.values()) {
      if (line.changed) post(toWire(line))
      line.changed = false
    }
  }
  const change = (descriptor: Descriptor, update: (line: Line) => void): void => {
    const line = lines.get(refKey(descriptor))
    if (line) update(Object.assign(line, { changed: true }))
  }
  const polling = send ? poll(flush, () => sending, stop.signal) : undefined
  return {
    say(event, name = '') {
      flush()
      post({ event, name })
    },
    add(descriptor, parents) {
      const line = lines.get(refKey(descriptor))
      for (const parent of parents) line?.parents.add(parent)
      if (!line)
        lines.set(refKey(descriptor), {
          descriptor,
          parents: new Set(parents),
          phase: 'waiting',
          next: undefined,
          offset: 0n,
          changed: true,
        })
    },
    set: (descriptor, phase) => change(descriptor, (line) => enter(line, phase)),
    at: (descriptor, offset) => change(descriptor, (line) => Object.assign(line, { offset })),
    async [Symbol.asyncDispose]() {
      stop.abort()
      await polling
      flush()
      await Promise.race([sending, sleep(FLUSH_MS, undefined, { ref: false })])
    },
  }
}

function enter(line: Line, phase: Phase): void {
  const isUnpacking = phase === 'extracting' || phase === 'extracted'
  const isHere = line.phase !== 'waiting' && line.phase !== 'downloading'
  const comes = phase === 'complete' || phase === 'already exists'
  if (isUnpacking && !isHere) line.next = phase
  else line.phase = comes ? (line.next ?? phase) : phase
}

/** Never more than one round waits for a slow client: what changes meanwhile is told in the next one. */
async function poll(flush: () => void, sent: () => Promise<void>, signal: AbortSignal): Promise<void> {
  const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
  while (!signal.aborted) {
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined)
    flush()
    await Promise.race([sent(), stopped])
  }
}

function toWire({ descriptor, parents, phase, offset }: Line): MessageInitShape<typeof ProgressSchema> {
  const { mediaType, digest, size, annotations = {} } = descriptor
  return {
    event: phase,
    name: refKey(descriptor),
    parents: [...parents],
    progress: phase === 'waiting' || phase === 'downloading' || phase === 'uploading' ? offset : size,
    total: size,
    desc: { mediaType, digest, size, annotations },
  }
}
