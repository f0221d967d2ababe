/** Random archives against GNU tar. For longer than a moment: GANTRY_FUZZ_SECONDS=3600 vitest run extract/tar-fuzz.test.ts */
import { spawnSync } from 'node:child_process'
import { chownSync, lstatSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { archive, type Part } from '../testing/archive.ts'
import { createSandbox, type Sandbox } from '../testing/sandbox.ts'
import { tameArchive, wildBytes } from '../testing/tar-fuzz.ts'
import { listTree } from '../testing/tree.ts'
import { createPool, type Pool } from './pool.ts'

const SECONDS = Number(process.env.GANTRY_FUZZ_SECONDS ?? 0) // of each property; 0 is a fixed handful
const SEED =
  process.env.GANTRY_FUZZ_SEED === undefined ? (SECONDS > 0 ? Date.now() : 1) : Number(process.env.GANTRY_FUZZ_SEED)
/** What containerd refuses as we do. */
const STRICTER = /is itself$/
const UNDESCRIBED = / 40000 [0-7]+ \d+:\d+ (17[5-9]|18)\d{16,17}\b/
const TIMEOUT = (SECONDS + 60) * 1000

describe.skipIf(process.getuid?.() !== 0)('random archives (skipped without root: the jail needs it)', () => {
  let pool: Pool
  let box: Sandbox

  beforeAll(() => {
    pool = createPool(1)
    box = createSandbox(pool)
  })
  afterAll(async () => {
    box[Symbol.dispose]()
    await pool[Symbol.asyncDispose]()
  })

  test('what GNU tar lays out without complaint comes out the same', { timeout: TIMEOUT }, async () => {
    const other = join(box.base, 'tar')
    let compared = 0
    let cases = 0
    await check(
      fc.asyncProperty(tameArchive, async (parts) => {
        cases++
        renew(box.root)
        renew(other)
        const bytes = archive(...parts)
        const tar = spawnSync(
          'tar',
          ['-C', other, '--xattrs', '--xattrs-include=*', '--same-owner', '--delay-directory-restore', '-p', '-x'],
          {
            input: bytes,
          },
        )
        const failure = await box.lay(bytes).catch((error: unknown) => error)
        if (failure instanceof Error && failure.name !== 'Fault') throw failure
        if (tar.status !== 0) return
        if (failure instanceof Error && STRICTER.test(failure.message)) return
        if (failure instanceof Error) throw failure

        if (mixesUp(parts, other)) return
        compared++

        expect(describedIn(box.root)).toEqual(describedIn(other))
      }),
      40,
    )
    rmSync(other, { recursive: true })
    report('compared with GNU tar', `${compared} of ${cases}`)
    expect(compared).toBeGreaterThan(cases / 20)
  })

  test('nothing outside the root is touched, whatever the bytes', { timeout: TIMEOUT }, async () => {
    const before = surroundings(box)
    let laid = 0
    let cases = 0
    await check(
      fc.asyncProperty(wildBytes(box.base), async (bytes) => {
        cases++
        renew(box.root)
        const failure = await box.lay(bytes).catch((error: unknown) => error)
        if (failure instanceof Error && failure.name !== 'Fault') throw failure
        if (!(failure instanceof Error)) laid++

        expect(surroundings(box)).toEqual(before)
      }),
      150,
    )
    report('laid out of wild ones', `${laid} of ${cases}`)
    expect(laid).toBeGreaterThan(cases / 20)
  })
})

function check<T>(property: fc.IAsyncProperty<T>, runs: number): Promise<void> {
  if (SECONDS === 0) return fc.assert(property, { numRuns: runs, seed: SEED })
  return fc.assert(property, { numRuns: 1e9, seed: SEED, interruptAfterTimeLimit: SECONDS * 1000 })
}

function report(what: string, count: string): void {
  if (SECONDS > 0) process.stderr.write(`fuzz, seed ${SEED}, ${SECONDS} s: ${what}: ${count}\n`)
}

/** When a folder is replaced behind a link, GNU tar gives its mode and time to what has replaced it. */
function mixesUp(parts: readonly Part[], root: string): boolean {
  if (!parts.some(({ flag }) => flag === '2')) return false
  const folders = parts
    .filter(({ flag }) => flag === '5')
    .map(({ name, pax }) => pax?.path ?? Buffer.from(name, 'latin1'))
  return folders.some((path) => !isFolder(join(root, path.toString())))
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false // gone, or behind a loop of links
  }
}

/**
 * A tree, but for folders that no entry describes: they have the time they were made at, and in a setgid folder GNU tar
 * makes them before that has its mode, we after, as containerd does.
 */
function describedIn(root: string): string[] {
  return listTree(root, { times: true }).filter((line) => !UNDESCRIBED.test(line))
}

function renew(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { mode: 0o755 })
  chownSync(folder, 0, 0)
}

/** Everything beside the root, and what the whole host has at its top. */
function surroundings({ base }: Sandbox): string[] {
  const facts = (path: string): string => {
    const { mode, uid, gid, nlink, size, mtimeMs } = lstatSync(path)
    return `${path} ${mode} ${uid}:${gid} ${nlink} ${size} ${mtimeMs}`
  }
  const names = readdirSync(base).filter((name) => name !== 'root' && name !== 'blob')
  return [...names.map((name) => facts(join(base, name))), ...readdirSync('/').sort()]
}
