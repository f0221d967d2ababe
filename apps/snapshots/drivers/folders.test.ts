import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mount, unmount } from '@gantry/linux/mount'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createPool, type Pool } from '../extract/pool.ts'
import { createFolders, type Folders } from './folders.ts'

const forever = new AbortController().signal
const tmpfs = { type: 'tmpfs', source: 'tmpfs', options: [] }

describe.skipIf(process.getuid?.() !== 0)('folders of snapshots (skipped without root: they jail)', () => {
  let base: string
  let root: string
  let pool: Pool
  let folders: Folders
  let reported: string[]

  beforeEach(() => {
    base = realpathSync(mkdtempSync(join(tmpdir(), 'gantry-folders-')))
    root = join(base, 'root')
    pool = createPool(1)
    start()
  })
  afterEach(async () => {
    await pool[Symbol.asyncDispose]()
    rmSync(base, { recursive: true })
  })

  function start(): void {
    reported = []
    folders = createFolders({ root, pool, report: (_, path) => void reported.push(path) })
  }

  /** A start after a crash, and all that it deletes. */
  async function recover(...known: number[]): Promise<number> {
    start()
    const highest = await folders.recover(new Set(known))
    await folders.cleanup(forever)
    return highest
  }

  const plant = (...names: string[]): void => {
    for (const name of names) mkdirSync(join(root, name, 'fs'), { recursive: true })
  }
  const keepsake = (...path: string[]): string => {
    const file = join(...path, 'keepsake')
    mkdirSync(join(...path), { recursive: true })
    writeFileSync(file, '')
    return file
  }

  test('what a link leads to is not emptied at a start, nor when a snapshot goes', async () => {
    const file = keepsake(base, 'home')
    for (const name of ['777', 'new-778', 'rm-779', 'mine', '5']) symlinkSync(join(base, 'home'), join(root, name))

    await recover(5)
    await folders.discard(5)
    await folders.cleanup(forever)

    expect([readdirSync(root), reported]).toEqual([['mine'], []])
    expect(existsSync(file)).toBe(true)
  })

  test("a stranger's files and folders stay, and are nobody's number", async () => {
    plant('7', 'lost+found')
    writeFileSync(join(root, 'note'), '')

    expect(await recover(7)).toBe(7)

    expect([readdirSync(root).sort(), reported]).toEqual([['7', 'lost+found', 'note'], []])
  })

  test('a folder goes although one of its number is still being deleted, or could not be', async () => {
    plant('6', 'rm-6', 'new-6', 'rm-new-6')

    await recover()

    expect([readdirSync(root), reported]).toEqual([[], []])
  })

  test('what is mounted in a snapshot that goes is not emptied, and the next start goes on', async () => {
    await folders.make(1, () => {})
    mkdirSync(join(root, '1', 'fs', 'deep', 'mnt'), { recursive: true })
    plant('2')
    mount({ ...tmpfs, target: join(root, '1', 'fs', 'deep', 'mnt') })
    mount({ ...tmpfs, target: join(root, '2') })
    const files = [keepsake(root, '1', 'fs', 'deep', 'mnt'), keepsake(root, '2')]
    await folders.discard(1)
    await folders.cleanup(forever)
    const [gone = ''] = reported

    try {
      expect(existsSync(join(gone, 'fs', 'deep', 'mnt', 'keepsake'))).toBe(true)
      await recover()
      expect(reported.sort()).toEqual([join(root, '2'), gone].sort())
      expect(existsSync(files[1] ?? '')).toBe(true)
    } finally {
      unmount(join(gone, 'fs', 'deep', 'mnt'))
      unmount(join(root, '2'))
    }
    await recover()
    expect([readdirSync(root), reported]).toEqual([[], []])
  })
})
