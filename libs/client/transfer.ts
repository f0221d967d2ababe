import { setTimeout } from 'node:timers/promises'
import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import type { Packed } from './any.ts'
import type { Progress } from './images.ts'
import { messagesOf, openStream, type Stream } from './stream.ts'
import type { Wire } from './wire.ts'

/** How long the last progress lines may take after the transfer has ended, in ms: nothing marks the last one. */
const LAST_PROGRESS_MS = 200

type OnProgress = (progress: Progress) => void

/** What is moved from where to where. */
export interface Ends {
  readonly source: Packed
  readonly destination: Packed
}

/**
 * Lets the server move images between two places. Progress comes over a stream of its own, which is opened while the ends
 * are still made, and open before the transfer names it; there is none when nobody wants to know.
 */
export async function transfer(
  wire: Wire,
  ends: Ends | Promise<Ends>,
  onProgress: OnProgress | undefined,
  signal: AbortSignal,
): Promise<void> {
  const made = Promise.resolve(ends)
  made.catch(() => undefined) // awaited below, if it comes to that
  await using progress = onProgress && (await openStream(wire, 'progress', signal))
  const reported = progress && onProgress && report(progress, onProgress)
  const request = { ...(await made), options: { progressStream: progress?.id ?? '' } }
  await wire.services.transfer.transfer(request, wire.call(signal))
  if (reported !== undefined) await Promise.race([reported, setTimeout(LAST_PROGRESS_MS)])
}

/** Reports until the stream ends. That it breaks says nothing about the transfer, which answers for itself. */
async function report(stream: Stream, onProgress: OnProgress): Promise<void> {
  const messages = messagesOf(stream, ProgressSchema)[Symbol.asyncIterator]()
  for (;;) {
    const next = await messages.next().catch(() => undefined)
    if (!next || next.done) return
    const { event, name, parents, progress, total } = next.value
    onProgress({ event, name, parents, progress, total })
  }
}
