import { expect, inject, test } from 'vitest'
import { imageOf, indexOf, makeImage } from './harness/image.ts'
import { openRegistry } from './harness/registry.ts'
import { tar } from './harness/tar.ts'
import { onEveryTarget } from './harness/target.ts'
import { rows } from './harness/text.ts'

const fixture = makeImage()

onEveryTarget((target) => {
  test('an image is pulled, shown as it goes, listed and checked', async () => {
    const image = inject('image')

    const pulled = await target().ctr(['images', 'pull', '--plain-http', image])
    expect(pulled.code).toBe(0)
    for (const blob of [fixture.manifest, fixture.config, ...fixture.layers])
      expect(pulled.stdout).toContain(blob.digest)
    expect(pulled.stdout).toMatch(new RegExp(`unpacking linux/\\w+ ${fixture.manifest.digest}\\.\\.\\.`))

    const listed = await target().ctr(['images', 'ls'])
    expect(listed.code).toBe(0)
    expect(rows(listed.stdout)).toEqual([
      [
        image,
        fixture.manifest.mediaType,
        fixture.manifest.digest,
        '1.0',
        'MiB',
        expect.stringMatching(/^linux\//),
        '-',
      ],
    ])

    const checked = await target().ctr(['images', 'check'])
    expect(rows(checked.stdout)).toEqual([
      [
        image,
        fixture.manifest.mediaType,
        fixture.manifest.digest,
        'complete',
        '(3/3)',
        '1.0',
        'MiB/1.0',
        'MiB',
        'true',
      ],
    ])
  })

  test('an image is pulled again without harm', async () => {
    await target().pull()

    expect((await target().ctr(['images', 'pull', '--plain-http', inject('image')])).code).toBe(0)
    expect((await target().ctr(['images', 'ls', '-q'])).stdout).toBe(`${inject('image')}\n`)
  })

  test('a second name is given and taken away', async () => {
    const image = await target().pull()

    expect(await target().ctr(['images', 'tag', image, 'docker.io/x/y:1'])).toEqual({
      code: 0,
      stdout: 'docker.io/x/y:1\n',
      stderr: '',
    })
    const twice = await target().ctr(['images', 'tag', image, 'docker.io/x/y:1'])
    expect(twice).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^ctr: .*"docker.io\/x\/y:1".*: already exists\n$/),
    })
    expect((await target().ctr(['images', 'tag', '--force', image, 'docker.io/x/y:1'])).code).toBe(0)
    expect((await target().ctr(['images', 'ls', '-q'])).stdout).toBe(`${image}\ndocker.io/x/y:1\n`)
    expect((await target().ctr(['images', 'ls', '-q', 'name==docker.io/x/y:1'])).stdout).toBe('docker.io/x/y:1\n')

    expect(await target().ctr(['images', 'rm', 'docker.io/x/y:1'])).toEqual({
      code: 0,
      stdout: 'docker.io/x/y:1\n',
      stderr: '',
    })
    expect((await target().ctr(['images', 'ls', '-q'])).stdout).toBe(`${image}\n`)
  })

  test('an image is labelled', async () => {
    const image = await target().pull()

    expect(await target().ctr(['images', 'label', image, 'tier=gold'])).toMatchObject({
      code: 0,
      stdout: 'tier=gold\n',
    })
    expect((await target().ctr(['images', 'ls', '-q', 'labels.tier==gold'])).stdout).toBe(`${image}\n`)
    expect((await target().ctr(['images', 'label', image, 'tier='])).code).toBe(0)
    expect((await target().ctr(['images', 'ls', '-q', 'labels.tier==gold'])).stdout).toBe('')
  })

  test('an unknown image is named in the answer', async () => {
    expect(await target().ctr(['images', 'tag', 'nope:1', 'other:1'])).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^ctr: .*image "nope:1": not found\n$/),
    })
    const removed = await target().ctr(['images', 'rm', 'nope:1'])
    expect(removed.code).toBe(0)
    expect(removed.stderr).toContain('nope:1: image not found')
  })

  test('an image belongs to its namespace', async () => {
    await target().pull()
    const other = target().anotherNamespace()

    expect((await target().ctr(['-n', other, 'images', 'ls', '-q'])).stdout).toBe('')
    expect((await target().ctr(['-n', other, 'content', 'ls', '-q'])).stdout).toBe('')
  })

  test('of an image for several platforms the one of this host is unpacked', async () => {
    const foreign = imageOf([tar([{ path: 'for', data: 'another machine' }])])
    const host = `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`
    const images = { 'linux/s390x': foreign, [host]: fixture }
    const reference = await openRegistry(inject('registry')).pushIndex('several', '1', images)

    expect((await target().ctr(['images', 'pull', '--plain-http', reference])).code).toBe(0)
    const listed = rows((await target().ctr(['images', 'ls', `name==${reference}`])).stdout)
    expect(listed[0]?.slice(0, 3)).toEqual([reference, indexOf(images).mediaType, indexOf(images).digest])
    expect((await target().ctr(['run', '--rm', reference, 'c', 'cat', '/etc/motd'])).stdout).toBe(
      'from the second layer\n',
    )
    expect((await target().ctr(['content', 'get', foreign.layers[0]?.digest ?? ''])).code).toBe(1)
    await target().ctr(['images', 'rm', reference])
  })

  test('an image of another namespace is pulled from what is there', async () => {
    await target().pull()
    const other = target().anotherNamespace()

    expect((await target().ctr(['-n', other, 'images', 'pull', '--plain-http', inject('image')])).code).toBe(0)
    expect((await target().ctr(['-n', other, 'run', '--rm', inject('image'), 'c', 'cat', '/etc/motd'])).stdout).toBe(
      'from the second layer\n',
    )
  })
})
