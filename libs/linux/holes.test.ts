import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { dataRanges } from './holes.ts'

const BLOCK = 1024 * 1024 // larger than any file system's block

let folder: string
let fd: number

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-holes-'))
  fd = openSync(join(folder, 'file'), 'w+')
})
afterEach(() => {
  closeSync(fd)
  rmSync(folder, { recursive: true })
})

test('an empty file and one hole have no data', () => {
  expect([...dataRanges(fd)]).toEqual([])
  ftruncateSync(fd, 5 * BLOCK)
  expect([...dataRanges(fd)]).toEqual([])
})

test('data between holes is found, beyond four gigabytes too', () => {
  writeSync(fd, Buffer.alloc(BLOCK, 1), 0, BLOCK, BLOCK)
  writeSync(fd, Buffer.alloc(10, 1), 0, 10, 5000 * BLOCK)
  ftruncateSync(fd, 6000 * BLOCK)

  const ranges = [...dataRanges(fd)]

  expect(ranges[0]).toEqual({ start: BLOCK, end: 2 * BLOCK })
  expect(ranges[1]?.start).toBe(5000 * BLOCK)
  expect(ranges).toHaveLength(2)
})
