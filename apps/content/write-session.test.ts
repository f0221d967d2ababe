import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import {
  WriteAction,
  type WriteContentRequest,
  WriteContentRequestSchema,
} from '@gantry/api/containerd/services/content/v1/content_pb'
import { type Digest, sha256Of } from '@gantry/model/digest'
import { isFault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { ISOLATED_HEADER } from '@gantry/rpc/context'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTestParts, type TestParts } from './testing/parts.ts'
import { writeSession } from './write-session.ts'

type Message = MessageInitShape<typeof WriteContentRequestSchema>
type Step = 'STAT' | 'WRITE' | 'COMMIT'

const HELLO = sha256Of('hello world')
const NS = parseNamespace('default')
const streams: Opened[] = []
let parts: TestParts

beforeEach(async () => {
  parts = await openTestParts()
})
afterEach(async () => {
  for (const stream of streams.splice(0)) await stream.cut()
  await parts[Symbol.asyncDispose]()
})

const stat_ = (ref: string, rest: Message = {}): Message => ({ action: WriteAction.STAT, ref, ...rest })
const write = (offset: number, data: string): Message => ({
  action: WriteAction.WRITE,
  offset: BigInt(offset),
  data: Buffer.from(data),
})
const commit = (offset: number, rest: Message = {}): Message => ({
  action: WriteAction.COMMIT,
  offset: BigInt(offset),
  ...rest,
})

interface Opened {
  send(message: Message): Promise<string>
  /** Half-closes; gives the last reply, which comes once more. */
  end(): Promise<string>
  /** The connection breaks. */
  cut(): Promise<void>
}

/** A Write stream by hand; replies come back as `ACTION offset digest`, failures as `code: message`. */
function openStream(
  on: TestParts,
  { namespace = NS, lease, isolated }: { namespace?: string; lease?: string; isolated?: boolean } = {},
): Opened {
  const queue: PromiseWithResolvers<IteratorResult<WriteContentRequest>>[] = [Promise.withResolvers()]
  const push = (result: IteratorResult<WriteContentRequest>) => {
    queue.at(-1)?.resolve(result)
    queue.push(Promise.withResolvers())
  }
  let at = 0
  const requests: AsyncIterable<WriteContentRequest> = {
    [Symbol.asyncIterator]: () => ({
      next: () => queue[at++]?.promise ?? Promise.resolve({ done: true, value: undefined }),
    }),
  }
  const signal = new AbortController().signal
  const context = {
    namespace: parseNamespace(namespace),
    lease,
    header: (name: string) => (isolated && name === ISOLATED_HEADER ? '1' : undefined),
    signal,
  }
  const replies = writeSession(requests, { context, ...on })[Symbol.asyncIterator]()
  const take = async () => {
    try {
      const { done, value } = await replies.next()
      if (done) return 'end'
      const name = (['STAT', 'WRITE', 'COMMIT'] as Step[])[value.action ?? 0]
      return `${name} ${value.offset} ${nameOf(value.digest ?? '')}`
    } catch (error) {
      if (isFault(error)) return error.code
      throw error
    }
  }
  const stream: Opened = {
    send(message) {
      push({ done: false, value: create(WriteContentRequestSchema, message) })
      return take()
    },
    async end() {
      push({ done: true, value: undefined })
      const last = await take()
      expect(await take()).toBe('end')
      return last
    },
    async cut() {
      await replies.return?.()
    },
  }
  streams.push(stream)
  return stream
}

/** Digests by the texts they stand for. */
const TEXTS = ['', 'hello', ' world', 'hello world', 'world', 'hello world!']
function nameOf(digest: string): string {
  const text = TEXTS.find((text) => sha256Of(text) === digest)
  return text === undefined ? digest : JSON.stringify(text)
}

async function upload(text: string, { namespace = NS, lease }: { namespace?: string; lease?: string } = {}) {
  const stream = openStream(parts, { namespace, ...(lease ? { lease } : {}) })
  await stream.send(stat_(`upload-${text}`))
  await stream.send(write(0, text))
  expect(await stream.send(commit(text.length))).toBe(`COMMIT ${text.length} ${JSON.stringify(text)}`)
  expect(await stream.end()).toContain('COMMIT')
}

interface Row {
  readonly name: string
  readonly given?: string[] // texts another namespace has
  readonly say: [Message, string][]
}

test.each<Row>([
  {
    name: 'every request gets one reply with its action',
    say: [
      [stat_('a', { total: 11n }), 'STAT 0 ""'],
      [write(0, 'hello'), 'WRITE 5 "hello"'],
      [write(5, ' world'), 'WRITE 11 "hello world"'],
      [stat_('a'), 'STAT 11 "hello world"'],
      [commit(11, { total: 11n, expected: HELLO }), 'COMMIT 11 "hello world"'],
    ],
  },
  { name: 'the first message must name the ref', say: [[stat_(''), 'invalid-argument']] },
  { name: 'a malformed digest is refused', say: [[stat_('a', { expected: 'sha256:../..' }), 'invalid-argument']] },
  {
    name: 'a write behind the end is refused',
    say: [
      [stat_('a'), 'STAT 0 ""'],
      [write(3, 'hello'), 'out-of-range'],
    ],
  },
  {
    name: 'a write at 0 starts again from the beginning',
    say: [
      [stat_('a'), 'STAT 0 ""'],
      [write(0, 'hello'), 'WRITE 5 "hello"'],
      [write(0, 'world'), 'WRITE 5 "world"'],
    ],
  },
  {
    name: 'an empty write answers where the ingest stands',
    say: [
      [stat_('a'), 'STAT 0 ""'],
      [write(0, 'hello'), 'WRITE 5 "hello"'],
      [write(5, ''), 'WRITE 5 "hello"'],
    ],
  },
  {
    name: 'a commit may carry the last bytes',
    say: [
      [stat_('a'), 'STAT 0 ""'],
      [write(0, 'hello'), 'WRITE 5 "hello"'],
      [commit(5, { data: Buffer.from(' world'), expected: HELLO }), 'COMMIT 11 "hello world"'],
    ],
  },
  {
    name: 'a commit at 0 forgets what came before',
    say: [
      [stat_('a'), 'STAT 0 ""'],
      [write(0, 'hello'), 'WRITE 5 "hello"'],
      [commit(0, { data: Buffer.from('world') }), 'COMMIT 5 "world"'],
    ],
  },
  {
    name: 'a first message may write at once',
    say: [
      [{ ...write(0, 'hello world'), ref: 'a' }, 'WRITE 11 "hello world"'],
      [commit(11), 'COMMIT 11 "hello world"'],
    ],
  },
  {
    name: 'the size of the first message is checked by a commit that names none',
    say: [
      [stat_('a', { total: 12n }), 'STAT 0 ""'],
      [write(0, 'hello world'), 'WRITE 11 "hello world"'],
      [commit(11), 'failed-precondition'],
    ],
  },
  {
    name: 'a wrong digest fails the commit',
    say: [
      [stat_('a'), 'STAT 0 ""'],
      [write(0, 'hello'), 'WRITE 5 "hello"'],
      [commit(5, { expected: HELLO }), 'failed-precondition'],
    ],
  },
  {
    name: 'a label that is too large fails the commit',
    say: [
      [stat_('a'), 'STAT 0 ""'],
      [write(0, 'hello'), 'WRITE 5 "hello"'],
      [commit(5, { labels: { key: 'x'.repeat(4096) } }), 'invalid-argument'],
    ],
  },
  {
    name: 'a blob of another namespace is granted without its bytes',
    given: ['hello world'],
    say: [
      [stat_('a', { expected: HELLO }), 'STAT 11 "hello world"'],
      [commit(11, { total: 11n, expected: HELLO }), 'COMMIT 11 "hello world"'],
    ],
  },
  {
    name: 'bytes behind a shared blob make a private copy',
    given: ['hello world'],
    say: [
      [stat_('a', { expected: HELLO }), 'STAT 11 "hello world"'],
      [write(11, '!'), 'WRITE 12 "hello world!"'],
      [commit(12, { expected: HELLO }), 'failed-precondition'],
    ],
  },
  {
    name: 'rewinding a shared blob starts with nothing',
    given: ['hello world'],
    say: [
      [stat_('a', { expected: HELLO }), 'STAT 11 "hello world"'],
      [write(0, 'hello'), 'WRITE 5 "hello"'],
      [write(5, ' world'), 'WRITE 11 "hello world"'],
      [commit(11, { expected: HELLO }), 'COMMIT 11 "hello world"'],
    ],
  },
  {
    name: 'a blob of another size is not shared',
    given: ['hello world'],
    say: [[stat_('a', { expected: HELLO, total: 12n }), 'STAT 0 ""']],
  },
])('$name', async ({ given = [], say }) => {
  for (const text of given) await upload(text, { namespace: 'other' })
  const stream = openStream(parts)

  const heard = []
  for (const [message] of say) heard.push(await stream.send(message))

  expect(heard).toEqual(say.map(([, reply]) => reply))
  await stream.cut()
})

test('the last reply comes once more when the client is done', async () => {
  const stream = openStream(parts)
  await stream.send(stat_('a'))
  await stream.send(write(0, 'hello'))

  expect(await stream.end()).toBe('WRITE 5 "hello"')
})

test('a committed blob is a read-only file, labelled, announced, and its ingest is gone', async () => {
  const stream = openStream(parts)
  await stream.send(stat_('a'))
  await stream.send(write(0, 'hello world'))
  await stream.send(commit(11, { labels: { kept: 'yes', dropped: '' } }))

  const path = parts.folder.blobPath(HELLO)
  expect((await readFile(path)).toString()).toBe('hello world')
  expect((await stat(path)).mode & 0o777).toBe(0o444)
  expect(parts.blobs.info(NS, HELLO)).toMatchObject({ digest: HELLO, size: 11n, labels: { kept: 'yes' } })
  expect(parts.events).toMatchObject([
    { namespace: 'default', topic: '/content/create', event: { digest: HELLO, size: 11n } },
  ])
  await expect(parts.ingests.status(NS, 'a')).rejects.toThrow('not found')
  expect(await parts.folder.sweep(new Set())).toBe(0)
})

test('a second writer has to wait until the first lets go', async () => {
  const first = openStream(parts)
  await first.send(stat_('a'))

  expect(await openStream(parts).send(stat_('a'))).toBe('unavailable')
  await first.cut()
  expect(await openStream(parts).send(stat_('a'))).toBe('STAT 0 ""')
})

test('whoever is cancelled before it waits for a writer waits no more', async () => {
  await openStream(parts).send(stat_('a'))

  const waiting = parts.ingests.released(NS, 'a', AbortSignal.abort(new Error('no more')))
  await expect(Promise.race([waiting, sleep(1000)])).rejects.toThrow('no more')
})

test('the same ref in another namespace is another ingest', async () => {
  await openStream(parts).send(stat_('a'))

  expect(await openStream(parts, { namespace: 'other' }).send(stat_('a'))).toBe('STAT 0 ""')
})

test('a broken stream keeps its bytes for the next one', async () => {
  const first = openStream(parts)
  await first.send(stat_('a'))
  await first.send(write(0, 'hello'))
  await first.cut()

  expect(await parts.ingests.status(NS, 'a')).toMatchObject({ ref: 'a', offset: 5n })
  const second = openStream(parts)
  expect(await second.send(stat_('a'))).toBe('STAT 5 "hello"')
  expect(await second.send(write(5, ' world'))).toBe('WRITE 11 "hello world"')
  expect(await second.send(commit(11, { expected: HELLO }))).toBe('COMMIT 11 "hello world"')
})

test('an ingest that is resumed for another size starts again', async () => {
  const first = openStream(parts)
  await first.send(stat_('a', { total: 11n }))
  await first.send(write(0, 'hello'))
  await first.cut()

  expect(await openStream(parts).send(stat_('a', { total: 12n }))).toBe('STAT 0 ""')
})

test('a failed commit leaves the bytes and lets go of the ref', async () => {
  const first = openStream(parts)
  await first.send(stat_('a'))
  await first.send(write(0, 'hello'))
  expect(await first.send(commit(5, { expected: HELLO }))).toBe('failed-precondition')

  expect(await openStream(parts).send(stat_('a'))).toBe('STAT 5 "hello"')
})

test('a blob the namespace has is not uploaded again, and the lease of the call holds it', async () => {
  await upload('hello world')

  const opening = await openStream(parts, { lease: 'held' }).send(stat_('a', { expected: HELLO }))
  expect(opening).toBe('already-exists')
  expect([...(parts.leases.held.get('held') ?? [])]).toEqual([`content ${HELLO}`])
})

test('a blob that arrives by another stream ends the upload and drops its bytes', async () => {
  const slow = openStream(parts)
  await slow.send(stat_('slow'))
  await slow.send(write(0, 'hello'))
  await upload('hello world')

  expect(await slow.send(stat_('slow', { expected: HELLO }))).toBe('already-exists')
  await expect(parts.ingests.status(NS, 'slow')).rejects.toThrow('not found')
})

test('a commit of bytes the namespace has already drops the ingest', async () => {
  await upload('hello world')
  const stream = openStream(parts, { lease: 'held' })
  await stream.send(stat_('a'))
  await stream.send(write(0, 'hello world'))

  expect(await stream.send(commit(11))).toBe('already-exists')
  await expect(parts.ingests.status(NS, 'a')).rejects.toThrow('not found')
  expect([...(parts.leases.held.get('held') ?? [])]).toEqual([`content ${HELLO}`])
})

test('a lease holds the ingest first and then the blob', async () => {
  const stream = openStream(parts, { lease: 'held' })
  await stream.send(stat_('a'))
  expect([...(parts.leases.held.get('held') ?? [])]).toEqual(['ingests a'])
  await stream.send(write(0, 'hello world'))
  await stream.send(commit(11))

  expect([...(parts.leases.held.get('held') ?? [])]).toEqual([`content ${HELLO}`])
})

test('a lease that does not exist fails the call and leaves nothing', async () => {
  expect(await openStream(parts, { lease: 'gone' }).send(stat_('a'))).toBe('not-found')
  await expect(parts.ingests.status(NS, 'a')).rejects.toThrow('not found')
  expect(await openStream(parts).send(stat_('a'))).toBe('STAT 0 ""')
})

test.each([
  ['where namespaces are isolated', { mayShare: false }, {}],
  ['by a caller that is isolated', {}, { isolated: true }],
])('%s the bytes have to be brought', async (_where, options, caller) => {
  await using isolated = await openTestParts(options)
  const other = openStream(isolated, { namespace: 'other' })
  await other.send(stat_('a'))
  await other.send(write(0, 'hello world'))
  await other.send(commit(11))

  const stream = openStream(isolated, caller)
  expect(await stream.send(stat_('a', { expected: HELLO }))).toBe('STAT 0 ""')
  await stream.send(write(0, 'hello world'))
  expect(await stream.send(commit(11, { expected: HELLO }))).toBe('COMMIT 11 "hello world"')
})

test('another algorithm is checked by hashing again', async () => {
  const sha512 = `sha512:${createHash('sha512').update('hello world').digest('hex')}` as Digest
  const stream = openStream(parts)
  await stream.send(stat_('a'))
  await stream.send(write(0, 'hello world'))

  expect(await stream.send(commit(11, { expected: sha512 }))).toBe(`COMMIT 11 ${sha512}`)
  expect(parts.blobs.has(NS, sha512)).toBe(true)
})

test('an aborted ingest is gone also for its writer', async () => {
  const stream = openStream(parts)
  await stream.send(stat_('a'))
  await stream.send(write(0, 'hello'))
  await parts.ingests.abort({ namespace: NS, lease: undefined }, 'a')

  expect(await stream.send(write(5, ' world'))).toBe('not-found')
  expect(await parts.folder.sweep(new Set())).toBe(0)
})

test('what a crash leaves in the ingest folder goes at the next start', async () => {
  await using file = await parts.folder.openIngest('stray')
  await file.write('half')

  expect(await parts.folder.sweep(new Set(['known']))).toBe(1)
})
