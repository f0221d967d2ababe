/** Looks into snapshots as a client does: by mounting them. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { run } from './command.ts'
import type { Target } from './target.ts'

/** A script that prints everything about every file but the times of folders, which many things change. */
export const LIST = `
  find . ! -type d -printf '%p %y %m %U:%G %s %n %Ts %l\\n' -o -printf '%p %y %m %U:%G\\n' | LC_ALL=C sort
  find . -type f -exec sha256sum {} + | LC_ALL=C sort -k 2
  find . '(' -type b -o -type c ')' -exec stat -c '%n %t:%T' {} + | LC_ALL=C sort
  getcap -r . | LC_ALL=C sort
`

/** Runs a script in the mounted snapshot and answers what it prints. */
export async function within(target: Target, key: string, script: string): Promise<string> {
  const point = join(target.dir, 'point', 'root')
  mkdirSync(point, { recursive: true })
  const mounting = await target.ctr(['snapshots', 'mounts', point, key])
  expect((await run(['sh', '-c', mounting.stdout])).code).toBe(0)
  try {
    const done = await run(['sh', '-ec', script], { cwd: point })
    expect(done).toMatchObject({ code: 0, stderr: '' })
    return done.stdout
  } finally {
    await run(['umount', point])
  }
}
