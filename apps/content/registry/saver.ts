import type { SavedPart } from './answer.ts'
import type { Sink } from './ask.ts'

const STEP = 4 * 1024 * 1024 // bytes that are told of together: each time wakes another thread
const LATE_MS = 50 // what is here is told of after so long, also when it is less

/** Where a body goes: `write` is told the position in the file. */
export interface Destination extends SavedPart {
  readonly write: (data: Uint8Array, at: number) => void
}

/** Writes a body to a file as it comes, without waiting: for a thread that does nothing else. */
export interface Saver extends Sink {
  /** Until then what has come waits. */
  begin(destination: Destination): void
}

interface SaverParts {
  readonly resume: () => void
  /** So many bytes more of the body are dealt with. */
  readonly told: (bytes: number) => void
  readonly ended: (error: unknown) => void
}

export function createSaver({ resume, told, ended }: SaverParts): Saver {
  let waiting: Buffer[] | undefined = []
  let over: { readonly error: unknown } | undefined
  let to: Destination | undefined
  let [at, skip, left, untold] = [0, 0, 0, 0]
  let late: NodeJS.Timeout | undefined

  function tell(): void {
    clearTimeout(late)
    late = undefined
    if (untold > 0) told(untold)
    untold = 0
  }

  function consume(chunk: Uint8Array): void {
    const data = chunk.subarray(skip, skip + left)
    skip -= Math.min(skip, chunk.length)
    if (data.length > 0) to?.write(data, at)
    at += data.length
    left -= data.length
    untold += chunk.length
    if (untold >= STEP) tell()
    else late ??= setTimeout(tell, LATE_MS)
  }

  return {
    put(chunk) {
      if (over) return true // the file may be another one's by now
      if (waiting) waiting.push(Buffer.from(chunk))
      else consume(chunk)
      return !waiting
    },
    end(error) {
      if (over) return
      over = { error }
      if (waiting) return
      tell()
      ended(error)
    },
    begin(destination) {
      to = destination
      ;({ at, skip, limit: left } = destination)
      const early = waiting ?? []
      waiting = undefined
      for (const chunk of early) consume(chunk)
      if (!over) return resume()
      tell()
      ended(over.error)
    },
  }
}
