import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { lgetxattr, lsetxattr } from '@gantry/linux/file'
import { expect, test } from 'vitest'
import { createPool } from '../extract/pool.ts'
import { driverContract, keptIn } from './driver.contract.ts'
import { createNative } from './native.ts'

const report = (error: unknown): void => {
  throw error
}

driverContract('native', (parts) => ({
  driver: createNative({ ...parts, report }),
  kept: () => keptIn(parts.root),
  again: () => createNative({ ...parts, report }),
  async [Symbol.asyncDispose]() {},
}))

const EVERYTHING = `
  mkdir -m 1777 dir; mkdir -m 000 dir/closed; echo hello > dir/file; ln dir/file dir/closed/same; ln dir/file again
  ln -s /etc/passwd link; ln -s '' none 2>/dev/null; mknod null c 1 3; mknod disk b 300 70000; mkfifo fifo
  head -c 100000 /dev/urandom > full; truncate -s 3G holes; printf data | dd of=holes bs=1 seek=1G conv=notrunc status=none
  echo x > setuid; chown 1234:70000 setuid link -h; chmod 6755 setuid
  printf 'a' > "$(printf 'b\\377d name')"; touch -d '1999-01-02 03:04:05.123456789' full; touch -h -d '2001-01-01 00:00:00.5' link
  touch -d '2010-10-10 10:10:10.987654321' dir/closed dir .
`
const LIST = `find . -printf '%P|%y|%m|%U|%G|%s|%n|%l|%T@\\n' | LC_ALL=C sort; stat -c '%n %t %T' null disk; sha256sum full dir/file`

test.skipIf(process.getuid?.() !== 0)('a copy has all that its original has (skipped without root)', async () => {
  const root = mkdtempSync(join(tmpdir(), 'gantry-copy-'))
  try {
    await using pool = createPool(1)
    for (const side of ['from', 'to']) mkdirSync(join(root, side))
    const inside = (side: string, script: string) =>
      execFileSync('bash', ['-c', script], { cwd: join(root, side), encoding: 'utf8' })
    inside('from', EVERYTHING)
    const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex') // net_bind_service
    lsetxattr(join(root, 'from', 'setuid'), 'security.capability', capability)
    lsetxattr(join(root, 'from', 'dir'), 'user.note', Buffer.from([0, 255]))

    await pool.run({ kind: 'copy', root, from: '/from', to: '/to' }, new AbortController().signal)

    expect(inside('to', LIST)).toBe(inside('from', LIST))
    expect(statSync(join(root, 'to', 'again')).ino).toBe(statSync(join(root, 'to', 'dir', 'closed', 'same')).ino)
    expect(statSync(join(root, 'to', 'holes')).blocks * 512).toBeLessThan(1024 * 1024)
    expect(Buffer.from(lgetxattr(join(root, 'to', 'setuid'), 'security.capability') ?? [])).toEqual(capability)
    expect([...(lgetxattr(join(root, 'to', 'dir'), 'user.note') ?? [])]).toEqual([0, 255])
    inside('to', 'cmp -i 1073741820 -n 4096 holes ../from/holes')
    expect(readFileSync(join(root, 'to', 'dir', 'file'), 'utf8')).toBe('hello\n')
  } finally {
    rmSync(root, { recursive: true })
  }
})
