/** Bytes, or only how many. */
export interface Piece {
  readonly length: number
}

/** The answer to one HTTP request. Disposing it drops what was not read. */
export interface Answer extends AsyncDisposable {
  readonly url: URL
  readonly status: number
  /** First value of a header, `''` when absent. */
  header(name: string): string
  /** All values of a header. */
  headers(name: string): readonly string[]
  readonly all: AnsweredHeaders
  /** A piece is good until the next one is asked for: its memory is used again. */
  readonly body: AsyncIterable<Uint8Array>
  /**
   * Only of a courier, for an answer of 200 or 206: the body goes to the file, and no more than its progress comes by here.
   */
  readonly save?: (part: SavedPart) => AsyncIterable<Piece>
}

/** What of a body goes where, in bytes. */
export interface SavedPart {
  /** Position in the file of the first byte that is wanted. */
  readonly at: number
  /** Bytes of the body before that one. */
  readonly skip: number
  /** Bytes that are wanted; what comes behind them is counted, not written. */
  readonly limit: number
}

type AnsweredHeaders = Readonly<Record<string, string | string[] | undefined>>

interface Answered extends Pick<Answer, 'url' | 'status' | 'body'> {
  readonly headers: AnsweredHeaders
  readonly drop: (reason: unknown) => void
}

/** An answer from its parts; `drop` is called when nobody wants the rest. */
export function answerOf({ headers, drop, ...rest }: Answered): Answer {
  const valuesOf = (name: string): readonly string[] => {
    const value = headers[name.toLowerCase()]
    return value === undefined ? [] : Array.isArray(value) ? value : [value]
  }
  return {
    ...rest,
    header: (name) => valuesOf(name)[0] ?? '',
    headers: valuesOf,
    all: headers,
    [Symbol.asyncDispose]: async () => drop(new Error('Nobody reads the rest')),
  }
}
