import { type Answer, answerOf, type Piece } from './answer.ts'
import type { ReceiveNews, ReceiveOrder, RemoteError } from './receive.ts'
import type { Question } from './transport.ts'

/** Asks from a thread that writes what comes to a file, and hashes it there. */
export interface Courier {
  /** @throws what `Transport.exchange` does */
  exchange(question: Omit<Question, 'body'>, signal: AbortSignal): Promise<Answer>
}

/** A thread that receives: its orders are followed in turn. */
export interface ReceivingThread {
  post(order: ReceiveOrder): void
  /** A name for an exchange, and who hears of it, until it is disposed. */
  converse(hear: (news: ReceiveNews | { readonly broken: unknown }) => void): Disposable & { readonly ask: number }
}

interface CourierFile {
  readonly id: number
  readonly fd: number
}

export function createCourier(thread: ReceivingThread, file: CourierFile): Courier {
  return {
    async exchange({ url, method, headers, dial }, signal) {
      signal.throwIfAborted()
      const inbox = createInbox<ReceiveNews>()
      const line = thread.converse((news) => ('broken' in news ? inbox.fail(news.broken) : inbox.put(news)))
      const { ask } = line
      const drop = (): void => {
        signal.removeEventListener('abort', abort)
        line[Symbol.dispose]()
        thread.post({ ask, drop: true }) // before anything else that is said of the file
      }
      const abort = (): void => {
        drop()
        inbox.fail(signal.reason)
      }
      signal.addEventListener('abort', abort)
      try {
        thread.post({ ask, question: { url: url.href, method, headers, ...(dial && { dial }) } })
        const news = await inbox.next()
        if (!('head' in news)) throw 'ended' in news ? revived(news.ended) : new Error('An answer without a head')
        const { status, headers: all, text } = news.head
        const answer = answerOf({ url, status, headers: all, body: textOf(text), drop })
        if (status !== 200 && status !== 206) return answer
        return {
          ...answer,
          save(part) {
            thread.post({ ask, save: { ...file, ...part } })
            return progressIn(inbox)
          },
        }
      } catch (error) {
        drop()
        throw error
      }
    },
  }
}

async function* progressIn(inbox: { next(): Promise<ReceiveNews> }): AsyncGenerator<Piece> {
  for (;;) {
    const next = await inbox.next()
    if ('head' in next) throw new Error('An answer with two heads')
    if ('saved' in next) yield { length: next.saved }
    else if (next.ended) throw revived(next.ended)
    else return
  }
}

async function* textOf(text: Uint8Array): AsyncGenerator<Uint8Array> {
  if (text.length > 0) yield text
}

function revived(error: RemoteError | undefined): Error {
  if (!error) return new Error('The answer ended before it began')
  const { name, message, code } = error
  return Object.assign(new Error(message), { name, ...(code !== undefined && { code }) })
}

/** What was put and not taken yet; a failure comes first. */
function createInbox<T>() {
  const items: T[] = []
  let failed: { readonly error: unknown } | undefined
  let news = Promise.withResolvers<void>()
  return {
    put(item: T): void {
      items.push(item)
      news.resolve()
    },
    fail(error: unknown): void {
      failed ??= { error }
      news.resolve()
    },
    async next(): Promise<T> {
      for (;;) {
        if (failed) throw failed.error
        const item = items.shift()
        if (item !== undefined) return item
        news = Promise.withResolvers()
        await news.promise
      }
    },
  }
}
