import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import { type Channel, clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { expect, test } from 'vitest'
import { createOwners } from './owners.ts'

const HELD = { namespace: 'a', hasBlobs: true }
const quiet = { error() {}, debug() {} }

/** Two owners of which only content answers. */
async function openOwners() {
  await using stack = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'gantry-owners-'))
  stack.defer(() => rmSync(folder, { recursive: true }))
  const address = join(folder, 'content.sock')
  const owner = bind(Owner, { holdings: async () => ({ holdings: [HELD] }) })
  stack.use(await listen({ address, bindings: [owner], log: quiet }))
  const channelTo = (path: string): Channel => stack.use(connect(path))
  const skipped: object[] = []
  const owners = createOwners(
    {
      content: clientOf(Owner, channelTo(address)),
      snapshots: clientOf(Owner, channelTo(join(folder, 'snapshots.sock'))),
    },
    { warn: (fields) => void skipped.push(fields) },
  )
  const opened = stack.move()
  return { owners, skipped, [Symbol.asyncDispose]: () => opened.disposeAsync() }
}

test('an owner that is down is left out of a listing and logged', async () => {
  await using opened = await openOwners()

  const holdings = await opened.owners.reachable(AbortSignal.timeout(10_000))

  expect(holdings).toMatchObject([HELD])
  expect(opened.skipped).toMatchObject([{ owner: 'snapshots' }])
})

test('a decision fails while an owner is down', { timeout: 10_000 }, async () => {
  await using opened = await openOwners()

  await expect(opened.owners.all(AbortSignal.timeout(10_000))).rejects.toMatchObject({ code: 'unavailable' })
})
