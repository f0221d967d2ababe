import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { reloading } from './reload.ts'

test('a file that becomes a link to itself is complained about once, and read again when it is mended', () => {
  vi.useFakeTimers()
  const dir = mkdtempSync(join(tmpdir(), 'gantry-reload-'))
  onTestFinished(() => {
    vi.useRealTimers()
    rmSync(dir, { recursive: true })
  })
  const file = join(dir, 'policy.toml')
  writeFileSync(file, 'one')
  const [load, info, error] = [vi.fn(), vi.fn(), vi.fn()]
  using _ = reloading([file], load, { info, error })

  rmSync(file)
  symlinkSync(file, file)
  vi.advanceTimersByTime(3000)
  expect(load).not.toHaveBeenCalled()
  expect(error.mock.calls).toEqual([
    [expect.objectContaining({ reason: expect.stringContaining('ELOOP') }), expect.anything()],
  ])

  rmSync(file)
  writeFileSync(file, 'another')
  vi.advanceTimersByTime(1000)
  expect(load).toHaveBeenCalledOnce()
})
