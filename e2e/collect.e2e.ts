/** What nothing refers to goes, what something refers to stays: as with containerd, and whoever is killed meanwhile. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { run } from './harness/command.ts'
import { until } from './harness/daemon.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { makeImage } from './harness/image.ts'
import { signal } from './harness/kill.ts'
import { onEveryTarget, onGantry, type Target } from './harness/target.ts'
import { rows, words } from './harness/text.ts'

const fixture = makeImage()
const KILLS = Number(process.env.GANTRY_E2E_KILLS ?? 6)

const blobsOf = async (target: Target) => words((await target.ctr(['content', 'ls', '-q'])).stdout)
const snapshotsOf = async (target: Target) => rows((await target.ctr(['snapshots', 'ls'])).stdout).map(([key]) => key)
const isBare = async (target: Target) => (await blobsOf(target)).length + (await snapshotsOf(target)).length === 0

onEveryTarget((target) => {
  test('blobs and snapshots go with the last name of their image, and not before', async () => {
    const image = await target().pull()
    await target().ctr(['images', 'tag', image, 'docker.io/x/other:1'])
    const [blobs, snapshots] = [await blobsOf(target()), await snapshotsOf(target())]
    expect([blobs.length, snapshots.length]).toEqual([4, 2])

    await target().ctr(['images', 'rm', '--sync', image])
    expect(await blobsOf(target())).toEqual(blobs)
    expect(await snapshotsOf(target())).toEqual(snapshots)

    await target().ctr(['images', 'rm', '--sync', 'docker.io/x/other:1'])
    expect(await blobsOf(target())).toEqual([])
    expect(await snapshotsOf(target())).toEqual([])
  })

  test('without being waited for, they go soon', async () => {
    const image = await target().pull()

    await target().ctr(['images', 'rm', image])

    await until('all is gone', () => isBare(target()))
  })

  test('a running container keeps its snapshots, and nothing else', async () => {
    const image = await target().pull()
    await target().ctr(['run', '-d', image, 'c1', 'sleep', '1000'])
    const snapshots = await snapshotsOf(target())

    await target().ctr(['images', 'rm', '--sync', image])
    expect(await blobsOf(target())).toEqual([])
    expect(await snapshotsOf(target())).toEqual(snapshots)
    expect((await target().ctr(['tasks', 'exec', '--exec-id', 'e', 'c1', 'echo', 'alive'])).stdout).toBe('alive\n')

    await target().ctr(['tasks', 'rm', '-f', 'c1'])
    await target().ctr(['containers', 'rm', 'c1'])
    await until('its snapshots are gone', () => isBare(target()))
  })

  test('labels keep what they refer to', async () => {
    const image = await target().pull()
    await target().ctr(['content', 'label', fixture.manifest.digest, 'containerd.io/gc.root=yes'])

    await target().ctr(['images', 'rm', '--sync', image])
    expect((await blobsOf(target())).length).toBe(4)
    expect((await snapshotsOf(target())).length).toBe(2)

    await target().ctr(['content', 'label', fixture.manifest.digest, 'containerd.io/gc.root='])
    await target().ctr(['leases', 'create', '--id', 'l'])
    await target().ctr(['leases', 'rm', '--sync', 'l'])
    expect(await isBare(target())).toBe(true)
  })

  test('a lease that was there before the pull ended keeps nothing it does not hold', async () => {
    await target().ctr(['leases', 'create', '--id', 'other'])
    const image = await target().pull()

    await target().ctr(['images', 'rm', '--sync', image])

    expect(await isBare(target())).toBe(true)
    await target().ctr(['leases', 'rm', 'other'])
  })
})

onGantry((target) => {
  const onDisk = () =>
    readdirSync(join(target().dir, 'root', 'content', 'blobs', 'sha256')).length +
    readdirSync(join(target().dir, 'root', 'snapshots', 'overlayfs')).filter((name) => /^\d+$/.test(name)).length

  test('bytes and folders go, too', async () => {
    const image = await target().pull()
    expect(onDisk()).toBe(6)

    await target().ctr(['images', 'rm', '--sync', image])

    expect(onDisk()).toBe(0)
  })

  test('bytes stay as long as another namespace has them', async () => {
    const image = await target().pull()
    const other = target().anotherNamespace()
    expect((await target().ctr(['-n', other, 'images', 'pull', '--plain-http', image])).code).toBe(0)

    await target().ctr(['images', 'rm', '--sync', image])
    expect(await isBare(target())).toBe(true)
    expect((await target().ctr(['-n', other, 'run', '--rm', image, 'c2', 'echo', 'there'])).stdout).toBe('there\n')

    await target().ctr(['-n', other, 'images', 'rm', '--sync', image])
    expect(onDisk()).toBe(0)
  })

  test('the operator sees what takes room, what keeps it and what would go', async () => {
    const image = await target().pull()
    const gantry = (...args: string[]) =>
      run([GANTRY, ...args], { env: gantryEnv(target().address, target().namespace) })
    const layer = fixture.layers[0]?.digest ?? ''

    const why = rows((await gantry('why', layer.slice('sha256:'.length, 20))).stdout)
    expect(why.map(([kind, id, ...how]) => [kind, id, how.join(' ')])).toEqual([
      ['image', `${image}:`, 'image'],
      ['blob', `${fixture.manifest.digest}:`, 'target of the image'],
      ['blob', `${layer}:`, 'label'],
    ])
    const used = JSON.parse((await gantry('df', '--json')).stdout)
    expect(used).toContainEqual(expect.objectContaining({ kind: 'images', id: image, kept: true }))
    await target().ctr(['snapshots', 'prepare', 'open'])
    const folder = / (\S+\/fs) /.exec((await target().ctr(['snapshots', 'mounts', '/mnt', 'open'])).stdout)?.[1] ?? ''
    writeFileSync(join(folder, 'file'), Buffer.alloc(100_000, 1))
    const open = JSON.parse((await gantry('df', '--json')).stdout).find(({ id }: { id: string }) => id === 'open')
    expect(open).toMatchObject({ kind: 'snapshots/overlayfs', unmeasured: 0 })
    expect(Number(open.snapshotBytes)).toBeGreaterThanOrEqual(100_000)
    await target().ctr(['snapshots', 'rm', 'open'])
    expect((await gantry('gc', '--dry-run')).stdout).toBe('0 things of 0B would go\n')

    await target().ctr(['images', 'rm', image])
    expect((await gantry('gc')).code).toBe(0)
    expect(await isBare(target())).toBe(true)
    expect(await gantry('why', image)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('there is nothing of that name'),
    })
  })

  test('what the disk has and no record knows is told and removed; a record without its bytes is told', async () => {
    const image = await target().pull()
    const root = join(target().dir, 'root')
    const gantry = (...args: string[]) =>
      run([GANTRY, ...args], { env: gantryEnv(target().address, target().namespace) })
    const strays = [
      join(root, 'content', 'blobs', 'sha256', 'f'.repeat(64)),
      join(root, 'content', 'ingest', 'lost'),
      join(root, 'snapshots', 'overlayfs', '99999'),
      join(target().dir, 'state', 'mounts', 'lost'),
      join(target().dir, 'state', 'bundles', target().namespace, 'lost'),
    ]
    for (const path of strays) mkdirSync(path, { recursive: true })
    rmdirSync(strays[0] ?? '')
    writeFileSync(strays[0] ?? '', 'whose is this?')

    const told = JSON.parse((await gantry('repair', '--dry-run', '--json')).stdout)
    // tasks compares by itself now and then, and may have been quicker
    expect(told.map(({ of }: { of: string }) => of)).toEqual(expect.arrayContaining(strays.slice(0, -1)))
    expect(strays.slice(0, -1).every((path) => existsSync(path))).toBe(true)
    expect((await gantry('repair')).code).toBe(0)
    expect(strays.filter((path) => existsSync(path))).toEqual([])

    const bytes = join(root, 'content', 'blobs', ...fixture.manifest.digest.split(':'))
    const moved = join(target().dir, 'moved')
    renameSync(bytes, moved)
    const missing = await gantry('repair')
    renameSync(moved, bytes)
    expect(missing).toMatchObject({ code: 1, stdout: expect.stringContaining(fixture.manifest.digest) })
    await until('all is as the records say', async () =>
      (await gantry('repair', '--dry-run')).stdout.startsWith('Disk'),
    )
    expect((await target().ctr(['run', '--rm', image, 'r1', 'echo', 'whole'])).stdout).toBe('whole\n')
    await target().ctr(['images', 'rm', '--sync', image])
  })

  test(
    `any process may be killed while images come and go: what is named is whole, the rest goes (${KILLS} kills)`,
    async () => {
      for (let round = 0; round < KILLS; round++) {
        const victim = ['metadata', 'content', 'snapshots'][round % 3] ?? ''
        const image = await pulled(target())
        const removing = target().ctr(['images', 'rm', '--sync', image])
        await sleep(Math.random() * 120)
        await signal(target(), victim, 'SIGKILL')
        await removing
        const again = await pulled(target())
        const ran = await target().ctr(['run', '--rm', again, `k-${round}`, 'echo', 'whole'], { timeoutMs: 60_000 })
        expect({ victim, ...ran }).toMatchObject({ victim, stdout: 'whole\n' })
        expect(existsSync(join(target().dir, 'root', 'content', 'blobs', ...fixture.manifest.digest.split(':')))).toBe(
          true,
        )
        await target().ctr(['images', 'rm', image])
        await until('all is gone', async () => (await isBare(target())) && onDisk() === 0, { withinMs: 40_000 })
      }
    },
    KILLS * 60_000,
  )
})

/** A pull that meets a process that is just starting again is tried again, as a person would. */
async function pulled(target: Target): Promise<string> {
  let image = ''
  await until(
    'the image is there',
    async () => {
      image = await target.pull()
      return image !== ''
    },
    { withinMs: 60_000 },
  )
  return image
}
