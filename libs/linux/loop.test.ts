import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { freeLoop, loopFile, openLoop } from './loop.ts'
import { mount, mountsUnder, unmount } from './mount.ts'

const can = process.getuid?.() === 0 && existsSync('/dev/loop-control')

describe.skipIf(!can)('loop devices (skipped without root and /dev/loop-control)', () => {
  let root: string
  let file: string

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'gantry-loop-'))
    file = join(root, 'image')
    writeFileSync(file, '')
    truncateSync(file, 16 * 1024 * 1024)
  })
  afterEach(() => {
    for (const point of mountsUnder(root)) unmount(point)
    rmSync(root, { recursive: true })
  })

  test('a device goes with its last user, unless it is kept', async () => {
    const device = openLoop(file, { readOnly: false })
    expect(loopFile(device.path)).toBe(file)
    device[Symbol.dispose]()
    await vi.waitFor(() => expect(loopFile(device.path)).not.toBe(file), 10_000)

    const kept = openLoop(file, { readOnly: true })
    kept.keep()
    kept[Symbol.dispose]()
    expect(loopFile(kept.path)).toBe(file)
    freeLoop(kept.path, join(root, 'another'))
    expect(loopFile(kept.path)).toBe(file)
    freeLoop(kept.path, file)
    await vi.waitFor(() => expect(loopFile(kept.path)).not.toBe(file), 10_000)
  })

  test('a FIFO is no image, and is not waited for', () => {
    execFileSync('mkfifo', [join(root, 'fifo')])

    expect(() => openLoop(join(root, 'fifo'), { readOnly: true })).toThrow(expect.objectContaining({ code: 'EINVAL' }))
  })

  test('an image is mounted by its path', () => {
    execFileSync('mkfs.ext4', ['-q', '-F', file])
    mkdirSync(join(root, 'point'))

    mount({ type: 'ext4', source: file, target: join(root, 'point'), options: ['rw', 'loop'] })

    writeFileSync(join(root, 'point', 'x'), 'in the image')
    expect(existsSync(join(root, 'point', 'lost+found'))).toBe(true)
  })
})
