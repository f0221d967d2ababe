import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { letWalk } from './acl.ts'

let base: string
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'gantry-acl-'))
  chmodSync(base, 0o711)
})
afterEach(() => rmSync(base, { recursive: true }))

/** What another user gets to see, by a process of its own. */
function as(uid: number, ...command: [string, ...string[]]): string {
  try {
    const [program, ...args] = command
    return execFileSync(program, args, { uid, gid: uid, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return 'refused'
  }
}

test.runIf(process.getuid?.() === 0)(
  'a user who may walk reaches what it knows, sees no list, and others do neither',
  () => {
    const folder = join(base, 'private')
    mkdirSync(folder, { mode: 0o700 })
    writeFileSync(join(folder, 'known'), 'here')
    expect(as(200_000, 'cat', join(folder, 'known'))).toBe('refused')

    letWalk(folder, 200_000, 0o700)
    letWalk(folder, 300_000, 0o700)
    letWalk(folder, 200_000, 0o700)

    expect(as(200_000, 'cat', join(folder, 'known'))).toBe('here')
    expect(as(300_000, 'cat', join(folder, 'known'))).toBe('here')
    expect(as(200_000, 'ls', folder)).toBe('refused')
    expect(as(400_000, 'cat', join(folder, 'known'))).toBe('refused')
    expect(statSync(folder).mode & 0o777).toBe(0o710)
  },
)
