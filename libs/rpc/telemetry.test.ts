import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Version } from '@gantry/api/containerd/services/version/v1/version_pb'
import { Fault } from '@gantry/model/fault'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { clientOf, connect } from './client.ts'
import { route } from './proxy.ts'
import { currentScope, inScope, type Scope, scopeOf, type Tracer, traced } from './scope.ts'
import { listen } from './server.ts'
import { bind, type Implementation, unimplemented } from './service.ts'
import type { Telemetry } from './telemetry.ts'

const log = { error: () => undefined, debug: () => undefined }
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = `00-${TRACE}-b7ad6b7169203331-01`

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gantry-telemetry-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** Notes each call as `process method code`, and gives each a span whose id says where it is. */
function watching(process: string, spanId: string, calls: string[]): Telemetry {
  return {
    of: (method) => ({
      begin(header) {
        const incoming = scopeOf(header)
        return {
          scope: { ...incoming, trace: incoming.trace && { ...incoming.trace, spanId } },
          end: (code) => void calls.push(`${process} ${method.name} ${code}`),
        }
      },
    }),
  }
}

/** client -> gateway -> owner -> another process */
async function startChain() {
  const stack = new AsyncDisposableStack()
  const calls: string[] = []
  const scopes: (Scope | undefined)[] = []
  const address = (name: string): string => join(folder, `${name}.sock`)
  const version = async () => {
    scopes.push(currentScope())
    return { version: '1' }
  }
  stack.use(await listen({ address: address('last'), bindings: [bind(Version, { version })], log }))
  const last = clientOf(Version, stack.use(connect(address('last'))))

  const content: Implementation<typeof Content> = {
    async info({ digest }, { signal }) {
      if (digest === 'missing') throw new Fault('not-found', 'not found')
      if (digest === 'bug') throw new Error('secret')
      scopes.push(currentScope())
      await last.version({}, { signal })
      return {}
    },
    async *read() {
      yield {}
      throw new Fault('data-loss', 'no more')
    },
    ...{ write: unimplemented('write'), update: unimplemented('update'), list: unimplemented('list') },
    ...{ delete: unimplemented('delete'), status: unimplemented('status'), abort: unimplemented('abort') },
    listStatuses: unimplemented('listStatuses'),
  }
  const telemetry = watching('owner', '2'.repeat(16), calls)
  stack.use(await listen({ address: address('owner'), bindings: [bind(Content, content)], hop: true, telemetry, log }))
  const owner = stack.use(connect(address('owner')))
  const routes = [route(Content, owner, watching('gateway', '1'.repeat(16), calls))]
  stack.use(await listen({ address: address('gateway'), bindings: [], routes, log }))
  const client = clientOf(Content, stack.use(connect(address('gateway'))))
  return { client, calls, scopes, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

const signal = AbortSignal.timeout(20_000)

describe('a call from process to process', () => {
  test('keeps its id and its trace', async () => {
    await using chain = await startChain()

    const headers = { 'gantry-request-id': 'mine-1', traceparent: PARENT, tracestate: 'a=b' }
    await chain.client.info({}, { signal, headers })

    const trace = { traceId: TRACE, spanId: '2'.repeat(16), sampled: true, state: 'a=b' }
    const scope = { requestId: 'mine-1', trace, tracer: undefined }
    expect(chain.scopes).toEqual([scope, scope])
  })

  test('gets an id when it has none, and one of ours when its own could spoil a log', async () => {
    await using chain = await startChain()

    await chain.client.info({}, { signal })
    await chain.client.info({}, { signal, headers: { 'gantry-request-id': 'a "b"', traceparent: '00-0-0-00' } })

    const [first, same, second] = chain.scopes
    expect(first?.requestId).toMatch(/^[0-9a-f]{12}-[0-9a-z]+$/)
    expect(same?.requestId).toBe(first?.requestId)
    expect(second?.requestId).toMatch(/^[0-9a-f]{12}-[0-9a-z]+$/)
    expect(second?.requestId).not.toBe(first?.requestId)
    expect(second?.trace).toBeUndefined()
  })

  test('is told of with its code wherever it comes through', async () => {
    await using chain = await startChain()

    await chain.client.info({}, { signal })
    await chain.client.info({ digest: 'missing' }, { signal }).catch(() => undefined)
    const read = async (): Promise<void> => {
      for await (const _ of chain.client.read({}, { signal }));
    }
    await expect(read()).rejects.toMatchObject({ code: 'data-loss' })

    const told = [
      ...['gateway Info 0', 'gateway Info 5', 'gateway Read 15'],
      ...['owner Info 0', 'owner Info 5', 'owner Read 15'],
    ]
    await expect.poll(() => chain.calls.toSorted(), { timeout: 10_000 }).toEqual(told) // a caller may know before they do
  })

  test('that fails by a bug tells its caller nothing but its id', async () => {
    await using chain = await startChain()

    const failure = chain.client.info({ digest: 'bug' }, { signal, headers: { 'gantry-request-id': 'r7' } })

    await expect(failure).rejects.toMatchObject({ code: 'internal', message: 'Internal error (request r7)' })
  })
})

describe('a step of a call', () => {
  const scope = scopeOf((name) => (name === 'traceparent' ? PARENT : undefined))

  test('is a span of its own below the one of the call, and says how it ended', async () => {
    const ended: unknown[] = []
    const tracer: Tracer = {
      start: (name, { parent }) => ({
        context: { traceId: TRACE, spanId: `${name} in ${parent?.spanId}`, sampled: true },
        end: (failure) => void ended.push([name, failure]),
      }),
    }

    const inner = await inScope({ ...scope, tracer }, () =>
      traced('fetch', {}, () => traced('write', {}, async () => currentScope()?.trace?.spanId)),
    )
    const failing = inScope({ ...scope, tracer }, () => traced('unpack', {}, () => Promise.reject(new Error('no'))))

    await expect(failing).rejects.toThrow('no')
    expect(inner).toBe('write in fetch in b7ad6b7169203331')
    expect(ended).toEqual([
      ['write', undefined],
      ['fetch', undefined],
      ['unpack', 'no'],
    ])
  })

  test('is only run when nobody traces', async () => {
    expect(await traced('fetch', {}, async () => 7)).toBe(7)
  })
})
