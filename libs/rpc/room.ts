const MAX_QUEUED = 512 * 1024 // bytes of one stream that wait for their reader
const MAX_TOTAL = 32 * 1024 * 1024 // bytes of all streams of this process together, roughly: they share it

let streams = 0

/** Counts a stream that sends, until it is disposed. */
export function countStream(): Disposable {
  streams++
  let counted = true
  return {
    [Symbol.dispose]() {
      if (counted) streams--
      counted = false
    },
  }
}

/** What one of the streams may hold while its reader is slow, in bytes. */
export function room(): number {
  return Math.min(MAX_QUEUED, MAX_TOTAL / Math.max(streams, 1))
}

/** Is there so much on its way in `stream` that its producer should wait for `drain`? */
export function isFull(stream: { readonly writableLength: number }): boolean {
  return stream.writableLength > room()
}
