import { setTimeout } from 'node:timers/promises'
import type { Packed } from './any.ts'
import type { Progress } from './images.ts'
import type { Wire } from './wire.ts'

/** How long the last progress lines may take after the transfer has ended, in ms: nothing marks the last one. */
const LAST_PROGRESS_MS = 200

/** What is moved from where to where. */
export interface Ends {
  readonly source: Packed
  readonly destination: Packed
}

/**
 * Lets the server move images between two places. Progress comes over a stream of its own, which is opened while the ends
 * are still made, and open before the transfer names it; there is none when nobody wants to know.
 *
 * @throws {Fault} what the server says; what `onProgress` throws, which ends the transfer
 */
export async function transfer(
  wire: Wire,
  ends: Ends | Promise<Ends>,
  onProgress: ((progress: Progress) => void) | undefined,
  signal: AbortSignal,
): Promise<void> {
  const made = Promise.resolve(ends)
  made.catch(() => undefined) // awaited below, if it comes to that
  await using progress = onProgress && (await (await import('./progress.ts')).openProgress(wire, onProgress, signal))
  const request = { ...(await made), options: { progressStream: progress?.id ?? '' } }
  const broken = new AbortController()
  progress?.ended.catch(() => broken.abort())
  try {
    await wire.services.transfer.transfer(request, wire.call(AbortSignal.any([signal, broken.signal])))
  } catch (error) {
    if (broken.signal.aborted) await progress?.ended
    throw error
  }
  if (progress) await Promise.race([progress.ended, setTimeout(LAST_PROGRESS_MS)])
}
