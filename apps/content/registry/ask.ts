import type { Dispatcher } from 'undici'
import { type Batches, createBatches } from './batches.ts'
import type { Answer } from './transport.ts'

interface Asking {
  readonly url: URL
  readonly request: Dispatcher.DispatchOptions
}

/** One request; its answer is there with its headers, and whoever reads the body slows the server down. */
export async function ask(dispatcher: Dispatcher, { url, request }: Asking, signal: AbortSignal): Promise<Answer> {
  signal.throwIfAborted()
  const answered = Promise.withResolvers<Answer>()
  let controller: Dispatcher.DispatchController | undefined
  let body: Batches | undefined
  let over = false
  const end = (error?: unknown): void => {
    over = true
    signal.removeEventListener('abort', abort)
    answered.reject(error) // unless there is an answer: then its body breaks off
    body?.end(error)
  }
  const drop = (reason: unknown): void => {
    if (over) return // the connection may be another request's by now
    controller?.abort(reason instanceof Error ? reason : new Error(String(reason)))
    end(reason)
  }
  const abort = (): void => drop(signal.reason)
  signal.addEventListener('abort', abort)
  dispatcher.dispatch(request, {
    onRequestStart(started) {
      controller = started
      if (over) started.abort(new Error('Nobody waits for the answer'))
    },
    onResponseStart(started, status, headers) {
      if (status < 200) return // more follows
      const length = Number(headers['content-length'])
      body = createBatches(Number.isSafeInteger(length) ? length : undefined, () => started.resume())
      answered.resolve(toAnswer({ url, status, headers, body: body.pieces, drop }))
    },
    onResponseData(started, chunk) {
      if (!body?.put(chunk)) started.pause()
    },
    onResponseEnd: () => end(),
    onResponseError: (_, error) => end(error),
  })
  return await answered.promise
}

interface Answered extends Pick<Answer, 'url' | 'status' | 'body'> {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly drop: (reason: unknown) => void
}

function toAnswer({ headers, drop, ...rest }: Answered): Answer {
  const valuesOf = (name: string): readonly string[] => {
    const value = headers[name.toLowerCase()]
    return value === undefined ? [] : Array.isArray(value) ? value : [value]
  }
  return {
    ...rest,
    header: (name) => valuesOf(name)[0] ?? '',
    headers: valuesOf,
    [Symbol.asyncDispose]: async () => drop(new Error('Nobody reads the rest')),
  }
}
