import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import type { Progress } from './images.ts'
import { messagesOf, openStream, type Stream } from './stream.ts'
import type { Wire } from './wire.ts'

/** Reports of a transfer, over a stream that it names. */
export interface ProgressStream extends AsyncDisposable {
  readonly id: string
  /** Resolves when the server has closed the stream: nothing more is reported. Rejects with what `onProgress` throws. */
  readonly ended: Promise<void>
}

/** Opens the stream and waits until the server knows it. */
export async function openProgress(
  wire: Wire,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<ProgressStream> {
  const stream = await openStream(wire, 'progress', signal)
  const { id } = stream
  return { id, ended: report(stream, onProgress), [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose]() }
}

/** Reports until the stream ends. That it breaks says nothing about the transfer, which answers for itself. */
async function report(stream: Stream, onProgress: (progress: Progress) => void): Promise<void> {
  const messages = messagesOf(stream, ProgressSchema)[Symbol.asyncIterator]()
  for (;;) {
    const next = await messages.next().catch(() => undefined)
    if (!next || next.done) return
    const { event, name, parents, progress, total } = next.value
    onProgress({ event, name, parents, progress, total })
  }
}
