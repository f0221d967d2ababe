import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseNamespace } from '@gantry/model/namespace'
import { openStore } from '@gantry/store/store'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createOverlayfs } from './drivers/overlayfs.ts'
import { createPool, type Pool } from './extract/pool.ts'
import { createRepair } from './repair.ts'
import { rowsOf } from './rows.ts'
import { parseKey } from './snapshot.ts'
import { createSnapshots, type Snapshots } from './snapshots.ts'

const SCOPE = { namespace: parseNamespace('a'), snapshotter: 'overlayfs' }
const signal = AbortSignal.timeout(60_000)
const call = { signal, lease: undefined }

describe.skipIf(process.getuid?.() !== 0)('repair (skipped without root: it jails)', { timeout: 60_000 }, () => {
  let base: string
  let root: string
  let pool: Pool
  let stack: AsyncDisposableStack
  let snapshots: Snapshots
  let mountTable = ''
  const mountStrays: string[] = []
  let repair: (dryRun?: boolean) => Promise<readonly { what: string; of: string; advice?: string }[]>

  beforeEach(async () => {
    base = mkdtempSync(join(tmpdir(), 'gantry-repair-'))
    root = join(base, 'overlayfs')
    stack = new AsyncDisposableStack()
    const store = stack.use(openStore(join(base, 'records')))
    pool = stack.use(createPool(1))
    const driver = createOverlayfs({ root, pool, mountOptions: [], slowChown: false, report() {} })
    const rows = rowsOf(store)
    snapshots = await createSnapshots({
      rows,
      changes: { write: (fn) => store.write(() => fn(() => undefined)) },
      drivers: [driver],
      leases: { hold: async () => undefined, letGo: async () => undefined },
      clock: Date.now,
    })
    mountTable = ''
    mountStrays.length = 0
    const activations = {
      strays: () => [...mountStrays],
      takeDown: async ({ id }: { id: string }) => void mountStrays.splice(mountStrays.indexOf(id), 1),
    }
    const run = createRepair({
      rows,
      snapshots,
      drivers: [driver],
      activations,
      mounts: '/m',
      mountTable: () => mountTable,
    })
    repair = (dryRun = false) => Array.fromAsync(run(dryRun, signal))
    stack.defer(() => driver.cleanup(signal))
  })
  afterEach(async () => {
    await stack.disposeAsync()
    rmSync(base, { recursive: true })
  })

  const prepare = (key: string) =>
    snapshots.open(SCOPE, { kind: 'active', key: parseKey(key, 'key'), parent: undefined, labels: {} }, call)
  const plant = (name: string) => mkdirSync(join(root, name, 'fs'), { recursive: true })

  test('folders and mounts without a record are told, and then removed; the others stay', async () => {
    await prepare('box')
    for (const name of ['777', 'new-778', 'rm-779', 'junk']) plant(name)
    writeFileSync(join(root, 'file'), '')
    mountStrays.push('m1')
    const what = 'A folder of a snapshot without a record'
    const all = [
      ...['777', 'file', 'junk', 'new-778', 'rm-779'].map((name) => ({ what, of: join(root, name) })),
      { what: 'A mount without a record', of: '/m/m1' },
    ]
    const sorted = async (dryRun: boolean) => (await repair(dryRun)).toSorted((a, b) => (a.of < b.of ? 1 : -1))

    expect(await sorted(true)).toEqual(all.toSorted((a, b) => (a.of < b.of ? 1 : -1)))
    expect(existsSync(join(root, '777'))).toBe(true)
    expect(await sorted(false)).toHaveLength(all.length)

    expect(['777', 'file', 'junk', 'new-778'].filter((name) => existsSync(join(root, name)))).toEqual([])
    expect(await repair()).toEqual([])
    expect(existsSync(join(root, '1', 'fs'))).toBe(true)
  })

  test('what is mounted, and a record without its folder, are told with what to do', async () => {
    await prepare('box')
    rmSync(join(root, '1'), { recursive: true })
    plant('777')
    mountTable = `1 2 0:1 / /r rw - overlay overlay rw,lowerdir=${root}/777/fs:${root}/5/fs`

    const found = await repair()

    expect(found).toEqual([
      { what: 'A folder of a snapshot without a record', of: join(root, '777'), advice: expect.any(String) },
      { what: 'A snapshot without its folder', of: 'overlayfs snapshot box in a', advice: expect.any(String) },
    ])
    expect(existsSync(join(root, '777'))).toBe(true)
  })

  test('snapshots that are made and removed beside it keep their folders', async () => {
    let over = false
    const working = (async () => {
      for (let round = 0; round < 20; round++) {
        await prepare(`box ${round}`)
        if (round % 2 === 0) await snapshots.remove(SCOPE, parseKey(`box ${round}`, 'key'), call)
      }
    })().finally(() => {
      over = true
    })

    while (!over) for (const { advice } of await repair()) expect(advice).toBeUndefined()
    await working

    expect(await repair()).toEqual([])
    for (const { id } of snapshots.list(SCOPE)) expect(existsSync(join(root, String(id), 'fs'))).toBe(true)
    expect([...snapshots.list(SCOPE)]).toHaveLength(10)
    expect([...snapshots.making()]).toEqual([])
  })
})
