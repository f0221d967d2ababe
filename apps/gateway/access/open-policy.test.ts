import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openPolicy } from './open-policy.ts'

const log = { info: () => undefined, error: () => undefined }

test.each([
  ['that others may write', 'others may write it', (file: string) => chmodSync(file, 0o620)],
  ['that is not there', 'Cannot read the policy', (file: string) => rmSync(file)],
  [
    'that is a pipe, and is not waited for',
    'it is no file',
    (file: string) => {
      rmSync(file)
      execFileSync('mkfifo', ['-m', '600', file])
    },
  ],
  [
    'that is a link to something else',
    'it is no file',
    (file: string) => {
      rmSync(file)
      symlinkSync('/', file)
    },
  ],
])('a policy %s is refused in words', (_what, reason, spoil) => {
  const file = join(mkdtempSync(join(tmpdir(), 'gantry-policy-')), 'policy.toml')
  onTestFinished(() => rmSync(join(file, '..'), { recursive: true }))
  writeFileSync(file, '', { mode: 0o600 })
  using policy = openPolicy({ policy: file }, log)
  expect(policy.current().rightsOf({ kind: 'unknown', name: '' }).everything).toBe(false)

  spoil(file)

  expect(() => openPolicy({ policy: file }, log)).toThrow(reason)
})
