import type { Dispatcher } from 'undici'
import { type Answer, answerOf } from './answer.ts'
import { createBatches } from './batches.ts'

/** Where a body goes as it comes. */
export interface Sink {
  /** Is done with the chunk when it returns. Whoever gets `false` should wait for `resume` with the next one. */
  put(chunk: Uint8Array): boolean
  /** Nothing more comes; with an error, the body broke off. */
  end(error?: unknown): void
}

/** Opens the sink of an answer; undefined where its reader reads it. */
export type OpenSink = (head: { readonly status: number }, resume: () => void) => Sink | undefined

interface Asking {
  readonly url: URL
  readonly request: Dispatcher.DispatchOptions
  readonly openSink?: OpenSink | undefined
}

/** One request; its answer is there with its headers, and whoever reads the body slows the server down. */
export async function ask(
  dispatcher: Dispatcher,
  { url, request, openSink }: Asking,
  signal: AbortSignal,
): Promise<Answer> {
  signal.throwIfAborted()
  const answered = Promise.withResolvers<Answer>()
  let controller: Dispatcher.DispatchController | undefined
  let sink: Sink | undefined
  let over = false
  const end = (error?: unknown): void => {
    over = true
    signal.removeEventListener('abort', abort)
    answered.reject(error) // unless there is an answer: then its body breaks off
    sink?.end(error)
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
      const resume = (): void => started.resume()
      sink = openSink?.({ status }, resume)
      const batches = sink ? undefined : createBatches(sizeIn(headers), resume)
      sink ??= batches
      answered.resolve(answerOf({ url, status, headers, body: batches?.pieces ?? nothing(), drop }))
    },
    onResponseData(started, chunk) {
      if (!sink?.put(chunk)) started.pause()
    },
    onResponseEnd: () => end(),
    onResponseError: (_, error) => end(error),
  })
  return await answered.promise
}

function sizeIn(headers: Readonly<Record<string, string | string[] | undefined>>): number | undefined {
  const size = Number(headers['content-length'])
  return Number.isSafeInteger(size) ? size : undefined
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
