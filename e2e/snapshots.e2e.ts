import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { run } from './harness/command.ts'
import { makeImage } from './harness/image.ts'
import { hold } from './harness/lease.ts'
import { onEveryTarget } from './harness/target.ts'
import { rows } from './harness/text.ts'

const [BASE = ''] = makeImage().diffIds

onEveryTarget((target) => {
  test('the layers of an image are a chain of committed snapshots', async () => {
    await target().pull()

    const listed = rows((await target().ctr(['snapshots', 'ls'])).stdout)
    const top = listed.find(([, parent]) => parent === BASE)?.[0]

    expect(listed).toContainEqual([BASE, 'Committed'])
    expect(listed).toContainEqual([top, BASE, 'Committed'])
    expect((await target().ctr(['snapshots', 'tree'])).stdout).toContain(`${BASE}\n  \\_ ${top}`)
  })

  test('a snapshot is prepared, mounted, written to, committed and removed', async () => {
    const point = join(target().dir, 'point')
    await run(['mkdir', '-p', point])
    await using _ = await hold(target(), 'snapshots/overlayfs', ['done', 'look'])

    expect(await target().ctr(['snapshots', 'prepare', 'work'])).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(rows((await target().ctr(['snapshots', 'ls'])).stdout)).toContainEqual(['work', 'Active'])
    const mounts = await target().ctr(['snapshots', 'mounts', point, 'work'])
    expect(mounts.stdout).toMatch(
      new RegExp(`^mount -t bind ${target().snapshotFolders}/[0-9]+/fs ${point} -o (rw,rbind|rbind,rw)\n$`),
    )
    expect((await run(['sh', '-c', mounts.stdout])).code).toBe(0)
    writeFileSync(join(point, 'file'), 'written')
    await run(['umount', point])
    expect(await target().ctr(['snapshots', 'commit', 'done', 'work'])).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(rows((await target().ctr(['snapshots', 'ls'])).stdout)).toContainEqual(['done', 'Committed'])

    const view = await target().ctr(['snapshots', 'view', 'look', 'done'])
    expect(view.code).toBe(0)
    const again = await target().ctr(['snapshots', 'mounts', point, 'look'])
    expect((await run(['sh', '-c', again.stdout])).code).toBe(0)
    expect(readFileSync(join(point, 'file'), 'utf8')).toBe('written')
    expect(() => writeFileSync(join(point, 'file'), 'no')).toThrow('EROFS')
    await run(['umount', point])

    expect((await target().ctr(['snapshots', 'rm', 'done'])).stderr).toBe(
      'ctr: failed to remove "done": cannot remove snapshot with child: failed precondition\n',
    )
    expect((await target().ctr(['snapshots', 'rm', 'look'])).code).toBe(0)
    expect((await target().ctr(['snapshots', 'rm', 'done'])).code).toBe(0)
    const gone = await target().ctr(['snapshots', 'rm', 'done'])
    expect(gone).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^ctr: failed to remove "done": snapshot done does not exist: not found\n$/),
    })
  })

  test('a snapshot on a chain of layers is an overlay', async () => {
    await target().pull()
    const top = rows((await target().ctr(['snapshots', 'ls'])).stdout).find(([, parent]) => parent === BASE)?.[0] ?? ''

    expect((await target().ctr(['snapshots', 'prepare', 'over', top])).code).toBe(0)
    const { stdout } = await target().ctr(['snapshots', 'mounts', '/mnt', 'over'])
    expect(stdout).toMatch(/^mount -t overlay overlay \/mnt -o \S*lowerdir=\S+:\S+/)
    expect(stdout).toMatch(/workdir=\S+\/work,upperdir=\S+\/fs,lowerdir=/)
    expect((await target().ctr(['snapshots', 'rm', 'over'])).code).toBe(0)
  })

  test('a snapshot is looked at, labelled and measured', async () => {
    await target().ctr(['snapshots', 'prepare', 'shown'])

    const info = JSON.parse((await target().ctr(['snapshots', 'info', 'shown'])).stdout) as Record<string, unknown>
    expect(info).toMatchObject({
      Kind: 'Active',
      Name: 'shown',
      Labels: { 'containerd.io/gc.root': expect.any(String) },
    })
    expect((await target().ctr(['snapshots', 'label', 'shown', 'a=b'])).stdout).toContain('a=b')
    const usage = await target().ctr(['snapshots', 'usage', 'shown'])
    expect(usage.code).toBe(0)
    expect(rows(usage.stdout)[0]?.[0]).toBe('shown')
    await target().ctr(['snapshots', 'rm', 'shown'])
  })

  test('what cannot be done is refused with its reason', async () => {
    await target().ctr(['snapshots', 'prepare', 'open'])

    await using _ = await hold(target(), 'snapshots/overlayfs', ['look'])
    const told = async (...args: string[]) => (await target().ctr(['snapshots', ...args])).stderr
    expect(await told('prepare', 'open')).toContain('already exists')
    expect(await told('prepare', 'child', 'missing')).toBe('ctr: parent snapshot missing does not exist: not found\n')
    expect(await told('prepare', 'child', 'open')).toMatch(
      /^ctr: failed to create snapshot: parent "\S*open" is not committed snapshot.*: invalid argument\n$/,
    )
    expect(await told('commit', 'x', 'missing')).toBe('ctr: snapshot missing does not exist: not found\n')
    expect(await told('mounts', '/mnt', 'missing')).toBe('ctr: snapshot missing does not exist: not found\n')
    expect(await told('--snapshotter', 'nosuch', 'ls')).toBe('ctr: snapshotter not loaded: nosuch: invalid argument\n')
    await target().ctr(['snapshots', 'view', 'look'])
    expect(await told('commit', 'x', 'look')).toMatch(
      /^ctr: failed to commit snapshot: snapshot "\S*look" is not active.*: failed precondition\n$/,
    )
    await target().ctr(['snapshots', 'rm', 'look'])
    await target().ctr(['snapshots', 'rm', 'open'])
  })
})
