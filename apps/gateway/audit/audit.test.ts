import { EventEmitter } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { create, fromBinary } from '@bufbuild/protobuf'
import { type Batch, BatchSchema, ReadRequestSchema } from '@gantry/api/gantry/audit/v1/audit_pb'
import type { CallContext } from '@gantry/rpc/context'
import { expect, test } from 'vitest'
import { createAudit } from './audit.ts'
import { auditService } from './audit-service.ts'

const caller = { kind: 'unknown', name: 'nobody' } as const
const MAX_WAITING = 8192

/** A log that takes nothing until it is let. */
function openLog() {
  const batches: Batch[] = []
  const ids: string[] = []
  const warnings: object[] = []
  const gate = Promise.withResolvers<void>()
  let failures = 0
  return {
    batches,
    ids,
    warnings,
    release: gate.resolve,
    fail(times: number) {
      failures = times
    },
    journal: {
      async append(id: string, data: Uint8Array) {
        await gate.promise
        ids.push(id)
        if (failures-- > 0) throw new Error('the log did not confirm')
        batches.push(fromBinary(BatchSchema, data))
      },
      async *read() {},
    },
    log: { warn: (fields: object) => void warnings.push(fields) },
  }
}

/** A call of which only the end is seen. */
function end(audit: ReturnType<typeof createAudit>, path: string): void {
  const stream = Object.assign(new EventEmitter(), { sentTrailers: { 'grpc-status': '5' } })
  audit.follow(stream as unknown as ServerHttp2Stream, { 'containerd-namespace': 'n' }, { path, caller })
  stream.emit('close')
}

test('what comes faster than the log takes it is dropped, counted and told; nobody waits', async () => {
  const { batches, warnings, release, journal, log } = openLog()
  const audit = createAudit({ journal, log })

  for (let n = 0; n < MAX_WAITING + 10; n++) end(audit, `/s/${n}`)
  release()
  await audit[Symbol.asyncDispose]()

  const records = batches.flatMap((batch) => batch.records)
  expect(records).toHaveLength(MAX_WAITING)
  expect(records.at(-1)).toMatchObject({ method: `s/${MAX_WAITING - 1}`, code: 5, namespace: 'n' })
  expect(batches.reduce((sum, { dropped }) => sum + dropped, 0n)).toBe(10n)
  expect(warnings).toEqual([{ dropped: 1 }])
})

test('a batch that the log did not confirm is sent again with the same id', async () => {
  const { batches, ids, release, fail, journal, log } = openLog()
  await using audit = createAudit({ journal, log })
  fail(1)
  release()

  end(audit, '/s/m')
  await expect.poll(() => batches.length, { timeout: 10_000 }).toBe(1)

  expect(ids).toHaveLength(2)
  expect(ids[0]).toBe(ids[1])
})

test('a log that takes nothing holds up the end of the process for a second at most, and it says what is lost', async () => {
  const { warnings, journal, log } = openLog()
  const stuck = { ...journal, append: (_id: string, _data: Uint8Array, signal: AbortSignal) => untilAborted(signal) }
  const audit = createAudit({ journal: stuck, log })

  end(audit, '/s/m')
  await audit[Symbol.asyncDispose]()

  expect(warnings).toEqual([{ lost: 1 }])
})

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
}

test.each([-(2n ** 63n), -62135596801n, 253402300800n, 2n ** 63n - 1n])(
  'the log is not read from %d s',
  async (seconds) => {
    const { read } = auditService(openLog().journal)
    const call = { signal: AbortSignal.timeout(1000) } as CallContext

    await expect(Array.fromAsync(read(create(ReadRequestSchema, { since: { seconds } }), call))).rejects.toMatchObject({
      code: 'invalid-argument',
    })
  },
)
