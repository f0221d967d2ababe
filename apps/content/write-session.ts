import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  WriteAction,
  type WriteContentRequest,
  type WriteContentResponseSchema,
} from '@gantry/api/containerd/services/content/v1/content_pb'
import { toTimestamp } from '@gantry/model/clock'
import { type Digest, parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { type CallContext, ISOLATED_HEADER } from '@gantry/rpc/context'
import type { Blobs } from './blobs/blobs.ts'
import type { Ingests } from './blobs/ingests.ts'
import type { Writer } from './blobs/writer.ts'
import type { Leases } from './leases.ts'

type Reply = Omit<MessageInitShape<typeof WriteContentResponseSchema>, '$typeName' | '$unknown'>

interface Session {
  readonly context: CallContext
  readonly blobs: Pick<Blobs, 'has'>
  readonly ingests: Pick<Ingests, 'open'>
  readonly leases: Pick<Leases, 'add'>
}

/** What the messages so far have said; a later one may say otherwise. */
interface Declared {
  total: bigint
  expected: Digest | undefined
}

/**
 * One Write stream: one exclusive writer of one ref.
 *
 *   first message -> opens the writer -.
 *                                      |   STAT    -> where the ingest stands
 *   every message --------------------> WRITE   -> the bytes go to its end; offset 0 means from the beginning
 *                                          COMMIT  -> WRITE, then the ingest becomes a blob and the stream ends
 *
 * Every request gets one reply with its action, and a stream that ends well sends the last one again. A stream that
 * breaks keeps the bytes for whoever opens the ref next.
 *
 * @see behaviour facts, 5.3
 */
export async function* writeSession(
  requests: AsyncIterable<WriteContentRequest>,
  session: Session,
): AsyncIterable<Reply> {
  const { namespace, lease, signal } = session.context
  const messages = requests[Symbol.asyncIterator]()
  let next = await messages.next()
  if (next.done || next.value.ref === '') throw new Fault('invalid-argument', 'the first message must have a reference')
  const { ref, total, expected } = next.value
  const declared: Declared = { total, expected: digestOf(expected) }
  const isolated = session.context.header(ISOLATED_HEADER) !== undefined
  await using writer = await session.ingests.open({ namespace, lease, isolated, ref, ...declared }, signal)

  let reply: Reply = {}
  while (!next.done) {
    await declare(next.value, { declared, writer, session })
    reply = await step(next.value, { declared, writer, signal })
    yield reply
    if (next.value.action === WriteAction.COMMIT) break
    next = await messages.next()
  }
  yield reply
}

/** Takes over what a message says of the blob to come. A blob that has come meanwhile ends the upload. */
async function declare(
  request: WriteContentRequest,
  { declared, writer, session }: { declared: Declared; writer: Writer; session: Session },
): Promise<void> {
  const { namespace, lease, signal } = session.context
  if (request.total > 0n) declared.total = request.total
  const expected = digestOf(request.expected)
  if (expected === undefined) return
  declared.expected = expected
  if (!session.blobs.has(namespace, expected)) return
  await session.leases.add({ namespace, lease }, { content: expected }, signal)
  if (!session.blobs.has(namespace, expected)) return // it was collected just before
  await writer.discard()
  throw new Fault('already-exists', `blob with expected digest ${expected} exists`)
}

async function step(
  { action, offset, data, labels }: WriteContentRequest,
  { declared, writer, signal }: { declared: Declared; writer: Writer; signal: AbortSignal },
): Promise<Reply> {
  if (action === WriteAction.STAT) return await replyOf(action, declared, writer)
  const at = writer.status().offset
  if (offset < 0n || (offset > 0n && offset !== at))
    throw new Fault('out-of-range', `write @${offset} must occur at current offset ${at}`)
  if (offset === 0n && at > 0n) await writer.truncate()
  if (data.length > 0) await writer.append(data)
  if (action !== WriteAction.COMMIT) return await replyOf(action, declared, writer)
  const reply = await replyOf(action, declared, writer)
  return { ...reply, digest: await writer.commit({ ...declared, labels }, signal) }
}

async function replyOf(action: WriteAction, declared: Declared, writer: Writer): Promise<Reply> {
  const { offset, total, startedAtMs, updatedAtMs } = writer.status()
  return {
    action,
    offset,
    total: declared.total > 0n ? declared.total : total,
    digest: await writer.digest(),
    startedAt: toTimestamp(startedAtMs),
    updatedAt: toTimestamp(updatedAtMs),
  }
}

function digestOf(text: string): Digest | undefined {
  return text === '' ? undefined : parseDigest(text)
}
