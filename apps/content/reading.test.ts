/** Messages of Read lie in memory that is used again: whoever reads, however slowly, must never see the bytes of another. */
import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { clientOf, connect } from '@gantry/rpc/client'
import { route } from '@gantry/rpc/proxy'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { expect, test } from 'vitest'
import { contentService } from './content-service.ts'
import { openTestParts } from './testing/parts.ts'

const SIZE = 4 * 1024 * 1024 + 4321 // bytes
const NS = parseNamespace('default')
const log = { error: () => undefined, debug: () => undefined }
const signal = AbortSignal.timeout(60_000)

test('every reader gets the bytes, fast or slow, from the service or through a gateway', async () => {
  await using stack = new AsyncDisposableStack()
  const parts = stack.use(await openTestParts())
  const blobs = Array.from({ length: 3 }, () => randomBytes(SIZE))
  for (const [at, blob] of blobs.entries()) {
    const opening = { namespace: NS, lease: undefined, ref: `r${at}`, expected: undefined, total: 0n }
    await using writer = await parts.ingests.open(opening, signal)
    await writer.append(blob)
    await writer.commit({ total: 0n, expected: undefined, labels: {} }, signal)
  }
  const [own, public_] = [join(parts.root, 'c'), join(parts.root, 'g')]
  const bindings = [bind(Content, contentService(parts))]
  stack.use(await listen({ address: own, bindings, hop: true, log }))
  const routes = [route(Content, stack.use(connect(own)))]
  stack.use(await listen({ address: public_, bindings: [], routes, log }))

  const read = async (address: string, blob: Buffer, pauseMs: number): Promise<boolean> => {
    await using channel = connect(address)
    const hash = createHash('sha256')
    let total = 0
    const call = { signal, namespace: NS }
    for await (const { data, offset } of clientOf(Content, channel).read({ digest: sha256Of(blob) }, call)) {
      expect(offset).toBe(BigInt(total))
      total += data.length
      hash.update(data)
      if (pauseMs > 0) await sleep(pauseMs)
    }
    return `sha256:${hash.digest('hex')}` === sha256Of(blob)
  }
  const readers = blobs.flatMap((blob) =>
    [own, public_].flatMap((address) => [0, 0, 20].map((pauseMs) => read(address, blob, pauseMs))),
  )

  expect(await Promise.all(readers)).toEqual(readers.map(() => true))
}, 60_000)
