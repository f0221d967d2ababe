import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'

const CHUNK = 256 * 1024 // bytes read at once
const LOOK_MS = 200 // between two looks at a file that may grow
const NEWLINE = 10

export interface Reading {
  /** Only so many lines of what is there at first. */
  readonly tail?: number | undefined
  /** Asked before each look, so that nothing of what comes before its no is missed. */
  readonly goesOn: () => Promise<boolean>
}

/**
 * What is written to a file of output, as long as it goes on. One that was cut short meanwhile is read again from its
 * start: so do those who rotate a file that somebody writes to (`copytruncate` of logrotate).
 *
 * @throws {Fault} `not-found` when it cannot be read, `failed-precondition` when it is no file
 */
export async function* readLog(
  file: string,
  { tail, goesOn }: Reading,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Fault('not-found', `Cannot read the output: ${why}`, { cause })
  })
  const first = await handle.stat()
  if (!first.isFile()) throw new Fault('failed-precondition', `Cannot read the output: ${file} is no file`)
  let at = tail === undefined ? 0 : await startOfLast(tail, handle, first.size)
  for (;;) {
    const more = await goesOn()
    if ((await handle.stat()).size < at) at = 0
    for (;;) {
      signal.throwIfAborted()
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(CHUNK), 0, CHUNK, at)
      if (bytesRead === 0) break
      at += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
    if (!more) return
    await sleep(LOOK_MS, undefined, { signal })
  }
}

/** Where the last lines of a file begin; a last one without an end counts. */
async function startOfLast(lines: number, handle: FileHandle, size: number): Promise<number> {
  const buffer = Buffer.allocUnsafe(CHUNK)
  let left = lines
  for (let end = size; end > 0; end -= Math.min(end, CHUNK)) {
    const start = Math.max(0, end - CHUNK)
    const { bytesRead } = await handle.read(buffer, 0, end - start, start)
    for (let at = bytesRead; at-- > 0; )
      // the end of the last line begins no other one
      if (buffer[at] === NEWLINE && start + at < size - 1 && --left === 0) return start + at + 1
  }
  return lines === 0 ? size : 0
}
