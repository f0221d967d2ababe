/** kill -9 of `snapshots` while it unpacks what still arrives: GNU tar says what the tree is to be. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@gantry/client/client'
import { expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import type { Image } from './harness/image.ts'
import { signal, untilReplaced } from './harness/kill.ts'
import { largeImage } from './harness/large-image.ts'
import { hold } from './harness/lease.ts'
import { openRegistry } from './harness/registry.ts'
import { onGantry, type Target } from './harness/target.ts'
import { rows, words } from './harness/text.ts'

const KILLS = Number(process.env.GANTRY_E2E_KILLS ?? 4)
const LAST_KILL_MS = 700 // a pull takes about as long
const KILLS_TAKE_MS = 60_000 + KILLS * 20_000

onGantry((target) => {
  const pull = async (reference: string) => {
    await using client = createClient({ address: target().address, namespace: target().namespace })
    return await client.images.pull(reference, {}, () => undefined, AbortSignal.timeout(60_000))
  }

  test(
    `snapshots is killed at ${KILLS} moments of a pull: the next pull makes the tree whole, and nothing is left`,
    async () => {
      for (let round = 0; round < KILLS; round++) {
        const image = largeImage(300 + round)
        const reference = await openRegistry(inject('registry')).push(`unpacked-${round}`, '1', image)
        const first = pull(reference).catch(() => undefined)
        await sleep(Math.random() * LAST_KILL_MS)
        const before = await signal(target(), 'snapshots', 'SIGKILL')
        await first
        await untilReplaced(target(), 'snapshots', before)

        expect((await pull(reference)).target.digest).toBe(image.manifest.digest)

        const listed = rows((await target().ctr(['snapshots', 'ls'])).stdout)
        expect(listed.map((row) => row.at(-1))).toEqual(Array(3).fill('Committed'))
        expect(await treeIn(target(), topOf(listed, image))).toEqual(treeOf(target(), image))
        expect(words((await target().ctr(['leases', 'ls', '-q'])).stdout)).toEqual([])
        expect((await target().ctr(['images', 'rm', '--sync', reference])).code).toBe(0)
        await target().expectNoTraces() // no folder without a record, among others
      }
    },
    KILLS_TAKE_MS,
  )
})

/** Layers are named by chain IDs: the first by its diff ID, and the others hang above it. */
function topOf(listed: readonly string[][], { diffIds: [base] }: Image): string {
  let top = base ?? ''
  for (let above = top; above !== ''; ) {
    top = above
    above = listed.find(([, parent]) => parent === top)?.[0] ?? ''
  }
  return top
}

async function treeIn(target: Target, snapshot: string): Promise<string[]> {
  const point = join(target.dir, 'point')
  mkdirSync(point, { recursive: true })
  await using _ = await hold(target, 'snapshots/overlayfs', ['look'])
  expect((await target.ctr(['snapshots', 'view', 'look', snapshot])).code).toBe(0)
  const { stdout } = await target.ctr(['snapshots', 'mounts', point, 'look'])
  expect((await run(['sh', '-c', stdout])).code).toBe(0)
  try {
    return listing(point)
  } finally {
    expect((await run(['umount', point])).code).toBe(0)
    await target.ctr(['snapshots', 'rm', 'look'])
  }
}

/** What GNU tar makes of the layers; there are no whiteouts in them. */
function treeOf(target: Target, { layers }: Image): string[] {
  const folder = join(target.dir, 'reference')
  mkdirSync(folder)
  try {
    for (const { bytes } of layers) execFileSync('tar', ['-xzpf', '-', '-C', folder], { input: bytes })
    return listing(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Kind, mode, owner, size (but of folders), time and content of everything. */
function listing(folder: string): string[] {
  const folders = ['find', '.', '-mindepth', '1', '-type', 'd', '-printf', '%P %m %U:%G %T@\n']
  const others = ['find', '.', '!', '-type', 'd', '-printf', '%P %y %m %U:%G %s %T@ %l\n']
  const sums = ['find', '.', '-type', 'f', '-exec', 'sha256sum', '{}', '+']
  return [folders, others, sums].flatMap(([program = '', ...args]) =>
    execFileSync(program, args, { cwd: folder, encoding: 'utf8', maxBuffer: 2 ** 26 })
      .split('\n')
      .sort(),
  )
}
