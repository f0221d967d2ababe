const MAX_QUEUED = 512 * 1024 // bytes of one stream that wait for their reader
const MAX_TOTAL = 32 * 1024 * 1024 // bytes of all streams of this process together, roughly: they share it
const MAX_REQUESTS = 256 * 1024 * 1024 // bytes of large requests that are not answered yet
/** Up to here a request is small, and there is always room for it. */
export const SMALL_REQUEST = 64 * 1024 // bytes

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

let requests = 0

/** Counts what comes of a large request, until it is disposed. */
export function countRequest(): Disposable & {
  /** @returns false when there is no room for so many bytes more */
  add(bytes: number): boolean
} {
  let counted = 0
  return {
    add(bytes) {
      if (requests + bytes > MAX_REQUESTS) return false
      requests += bytes
      counted += bytes
      return true
    },
    [Symbol.dispose]() {
      requests -= counted
      counted = 0
    },
  }
}
