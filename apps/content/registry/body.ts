import { Fault } from '@gantry/model/fault'
import type { Answer, Piece } from './answer.ts'

const MAX_ERROR_BYTES = 8 * 1024 // of an error body that is read at all
const MAX_ERROR_TEXT = 300 // characters of it that are shown
const MIN_BYTES = 1024 // within one stall time; a body that drips slower is as good as stalled

/**
 * Reads a whole body into memory.
 *
 * @throws {Fault} `failed-precondition` when it is longer than `limit` bytes
 */
export async function readBounded(answer: Answer, limit: number, what: string): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of answer.body) {
    size += chunk.length
    if (size > limit) throw new Fault('failed-precondition', `Cannot read ${what}: more than ${limit} bytes`)
    chunks.push(Buffer.from(chunk)) // its memory is used again
  }
  return Buffer.concat(chunks)
}

/**
 * Passes a body on and gives up on one that only drips. Silence is the transport's to notice; time the consumer takes
 * does not count.
 *
 * @throws {Fault} `unavailable` naming what stalled
 */
export async function* steady<P extends Piece>(
  body: AsyncIterable<P>,
  { stallMs, what }: { stallMs: number; what: string },
): AsyncGenerator<P> {
  let waitedMs = 0
  let bytes = 0
  let since = performance.now()
  for await (const chunk of body) {
    waitedMs += performance.now() - since
    bytes += chunk.length
    if (waitedMs > stallMs && bytes < MIN_BYTES)
      throw new Fault('unavailable', `Cannot fetch ${what}: ${bytes} bytes in ${Math.round(waitedMs / 1000)} s`)
    if (waitedMs > stallMs) {
      waitedMs = 0
      bytes = 0
    }
    yield chunk
    since = performance.now()
  }
}

/**
 * What a registry says about its refusal, short, in one line and without anything secret; `''` when it says nothing.
 *
 * @param secrets what was sent to it: a server may send it back
 */
export async function errorText(answer: Answer, secrets: readonly string[] = []): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for await (const chunk of answer.body) {
      chunks.push(Buffer.from(chunk))
      size += chunk.length
      if (size >= MAX_ERROR_BYTES) break
    }
  } catch {
    // what came so far has to do: the status alone says that the request failed
  }
  const text = Buffer.concat(chunks).subarray(0, MAX_ERROR_BYTES).toString()
  return redact(without(messagesIn(text) ?? text, secrets))
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, MAX_ERROR_TEXT)
}

/** `{"errors":[{"code":"DENIED","message":"..."}]}` as the distribution API spells refusals. */
function messagesIn(text: string): string | undefined {
  try {
    const { errors } = JSON.parse(text)
    if (!Array.isArray(errors)) return undefined
    return errors.map(({ code, message }) => [code, message].filter(Boolean).join(': ')).join('; ')
  } catch {
    return undefined
  }
}

/** However they are spelled: as they are, in a URL, in Base64. */
function without(text: string, secrets: readonly string[]): string {
  const spelled = secrets.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    Buffer.from(secret).toString('base64').replace(/=+$/, ''),
  ])
  const longestFirst = spelled.filter((secret) => secret !== '').sort((a, b) => b.length - a.length)
  return longestFirst.reduce((rest, secret) => rest.replaceAll(secret, '***'), text)
}

function redact(text: string): string {
  return text
    .replace(/\b(bearer|basic)\s+[\w+/=.~-]+/gi, '$1 ***')
    .replace(/:\/\/[^/\s@]*@/g, '://***@')
    .replace(/\?[^\s"'<>]*/g, '?***')
    .replace(
      /\b((?:access_|refresh_|id_)?token|password|secret|authorization)(["']?\s*[:=]\s*["']?)[^\s"',}]+/gi,
      '$1$2***',
    )
}
