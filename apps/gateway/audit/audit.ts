import { randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { BatchSchema, type RecordSchema } from '@gantry/api/gantry/audit/v1/audit_pb'
import { toTimestamp } from '@gantry/model/clock'
import { NAMESPACE_HEADER } from '@gantry/rpc/context'
import type { Journal } from '@gantry/service/journal'
import type { Caller } from '../access/caller.ts'
import { createTargetReader, type TargetPath, type TargetReader } from './target.ts'

const MAX_WAITING = 8192 // records; with 700 bytes each at most 6 MB
const BATCH = 256 // records of one message
const GATHER_MS = 250 // how long the first of them waits for others
const RETRY_MS = 1000
const COMPLAIN_MS = 10_000
const LAST_MS = 1000 // for what waits at the end of the process
const MAX_NAME = 128 // characters of a caller or a namespace
const CANCELLED = 1
const REFUSED = [7, 16] // permission denied, unauthenticated

/** What is known of a call before it is served. */
export interface Asked {
  readonly path: string
  readonly caller: Caller
  /** Where its request names what it is about. */
  readonly target?: TargetPath | undefined
  /** Where its request names the namespace, when no header does. */
  readonly namespace?: TargetPath | undefined
  /** It changes nothing: it is noted when it was refused. */
  readonly reads?: boolean
}

/** Notes calls. It never makes one wait or fail: what comes faster than the log takes it is dropped, and counted. */
export interface Audit extends AsyncDisposable {
  /** Notes a call once it is over. Call it before anybody reads its request. */
  follow(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, asked: Asked): void
}

/** Where nothing is kept. */
export const NO_AUDIT: Audit = { follow: () => undefined, [Symbol.asyncDispose]: async () => undefined }

type Note = MessageInitShape<typeof RecordSchema>

interface Log {
  warn(fields: object, message: string): void
}

export function createAudit({ journal, log }: { journal: Journal; log: Log }): Audit {
  const stop = new AbortController()
  const instance = randomUUID()
  let waiting: Note[] = []
  let dropped = 0
  let unsaid = 0 // of them, those the log does not tell yet
  let complainedAt = Number.NEGATIVE_INFINITY
  let more = Promise.withResolvers<void>()

  function note(record: Note): void {
    if (waiting.length >= MAX_WAITING) drop()
    else if (waiting.push(record) === 1) more.resolve()
  }

  function drop(): void {
    dropped++
    unsaid++
    complain({ dropped })
  }

  function complain(fields: object): void {
    if (performance.now() - complainedAt < COMPLAIN_MS) return
    complainedAt = performance.now()
    log.warn(fields, 'The audit log does not keep up: records of calls wait, and are dropped when they are too many')
  }

  async function run(): Promise<void> {
    for (let count = 1; !stop.signal.aborted || waiting.length > 0; count++) {
      if (waiting.length === 0) await more.promise
      more = Promise.withResolvers<void>()
      if (stop.signal.aborted && waiting.length === 0) return
      if (waiting.length < BATCH) await pause(GATHER_MS)
      const records = waiting.slice(0, BATCH)
      const told = unsaid
      const bytes = toBinary(BatchSchema, create(BatchSchema, { records, dropped: BigInt(told) }))
      if (!(await appended(`${instance}:${count}`, bytes))) return
      waiting = waiting.slice(records.length)
      unsaid -= told
    }
  }

  /** @returns false when the process ends before the log has it */
  async function appended(id: string, bytes: Uint8Array): Promise<boolean> {
    while (!end.signal.aborted) {
      try {
        await journal.append(id, bytes, end.signal)
        return true
      } catch (error) {
        if (!end.signal.aborted) complain({ reason: error instanceof Error ? error.message : String(error) })
        await pause(RETRY_MS)
      }
    }
    return false
  }

  const pause = (ms: number): Promise<void> => sleep(ms, undefined, { signal: stop.signal }).catch(() => undefined)
  const end = new AbortController()
  const running = run()
  return {
    follow: (stream, headers, asked) => follow(stream, headers, { ...asked, note }),
    async [Symbol.asyncDispose]() {
      stop.abort()
      more.resolve()
      const timer = setTimeout(() => end.abort(), LAST_MS)
      await running
      clearTimeout(timer)
      if (waiting.length > 0)
        log.warn({ lost: waiting.length }, 'The process ends before the audit log has all records')
    },
  }
}

function follow(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { path, caller, target, namespace, reads, note }: Asked & { note(record: Note): void },
): void {
  const time = new Date()
  const start = performance.now()
  const targetOf = reading(stream, target)
  const namespaceOf = namespace ? reading(stream, namespace) : () => namespaceIn(headers)
  stream.once('close', () => {
    const status = stream.sentTrailers?.['grpc-status'] ?? stream.sentHeaders?.['grpc-status']
    const code = status === undefined ? CANCELLED : Number(status)
    if (reads && !REFUSED.includes(code)) return
    note({
      time: toTimestamp(time),
      ...whoIs(caller),
      method: path.slice(1),
      namespace: namespaceOf().slice(0, MAX_NAME),
      target: targetOf(),
      code,
      durationUs: BigInt(Math.round((performance.now() - start) * 1000)),
    })
  })
}

/** Reads a name in the request of a call; what is returned tells it once that is over. */
function reading(stream: ServerHttp2Stream, path: TargetPath | undefined): () => string {
  if (!path) return () => ''
  const reader = createTargetReader(path)
  listenAlong(stream, reader)
  return () => reader.target
}

/** Looks at the bytes that somebody else reads: by itself it would start them flowing before anybody takes them. */
function listenAlong(stream: ServerHttp2Stream, reader: TargetReader): void {
  const look = (chunk: Buffer): void => {
    if (reader.push(chunk)) stream.off('data', look)
  }
  const join = (event: string | symbol): void => {
    if (event !== 'data') return
    stream.off('newListener', join)
    stream.on('data', look)
  }
  stream.on('newListener', join)
}

function whoIs(caller: Caller): Pick<Note, 'caller' | 'uid' | 'gid' | 'pid' | 'fingerprint'> {
  const name = caller.name.slice(0, MAX_NAME)
  if (caller.kind === 'local') return { caller: name, uid: caller.uid, gid: caller.gid, pid: caller.pid }
  if (caller.kind === 'remote') return { caller: name, fingerprint: caller.fingerprint }
  return { caller: name }
}

function namespaceIn(headers: IncomingHttpHeaders): string {
  const value = headers[NAMESPACE_HEADER]
  const [first = ''] = (Array.isArray(value) ? (value[0] ?? '') : (value ?? '')).split(', ')
  return first
}
