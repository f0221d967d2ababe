import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type ReportParts, reportRuntime } from './report.ts'

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-report-'))
})

afterEach(() => rmSync(folder, { recursive: true }))

/** What the operator reads at the start, when this is what the runtime says of itself. */
async function warnings(script: string): Promise<unknown[]> {
  const runtime = join(folder, 'runc')
  writeFileSync(runtime, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  const warn = vi.fn()
  const host = { find: (name: string) => (name === 'gone' ? undefined : name), leftControllers: () => '' }
  await reportRuntime({
    ...{ configured: runtime, conmon: script === '' ? 'gone' : 'conmon', env: { PATH: process.env.PATH ?? '' } },
    host: { ...host, canHide: () => false },
    log: { info: vi.fn(), warn } as unknown as ReportParts['log'],
  })
  return warn.mock.calls.map(([first]) => first)
}

test('an operator is warned of a runtime with known holes (CVE-2019-5736, CVE-2021-30465, CVE-2023-27561)', async () => {
  const ids = ['CVE-2019-5736', 'CVE-2021-30465', 'CVE-2023-27561', 'CVE-2025-52881']

  expect(await warnings('echo runc version 0.1.1')).toEqual([
    expect.objectContaining({ version: '0.1.1', holes: expect.arrayContaining(ids) }),
  ])
  expect(await warnings('echo runc version 1.3.4')).toEqual([])
})

test('an operator is told what is missing', async () => {
  expect(await warnings('')).toEqual(['Cannot run containers: gone is not installed; install conmon'])
})
