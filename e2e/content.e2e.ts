import { expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { makeImage, sha256 } from './harness/image.ts'
import { hold } from './harness/lease.ts'
import { onEveryTarget } from './harness/target.ts'
import { rows } from './harness/text.ts'

const fixture = makeImage()
const TEXT = 'some bytes\n'

onEveryTarget((target) => {
  test('the blobs of an image are listed with their sizes and labels', async () => {
    await target().pull()

    const { code, stdout } = await target().ctr(['content', 'ls'])
    const listed = Object.fromEntries(rows(stdout).map((row) => [row[0], row.at(-1)?.split(',').sort()]))
    const [base, top] = fixture.layers

    expect(code).toBe(0)
    expect(Object.keys(listed).sort()).toEqual(
      [fixture.manifest, fixture.config, ...fixture.layers].map(({ digest }) => digest).sort(),
    )
    expect(listed[base?.digest ?? '']).toEqual([
      'containerd.io/distribution.source.127.0.0.1=busybox',
      `containerd.io/uncompressed=${fixture.diffIds[0]}`,
    ])
    expect(listed[fixture.manifest.digest]).toEqual([
      'containerd.io/distribution.source.127.0.0.1=busybox',
      `containerd.io/gc.ref.content.config=${fixture.config.digest}`,
      `containerd.io/gc.ref.content.l.0=${base?.digest}`,
      `containerd.io/gc.ref.content.l.1=${top?.digest}`,
    ])
    expect(listed[fixture.config.digest]?.[1]).toMatch(
      /^containerd\.io\/gc\.ref\.snapshot\.overlayfs=sha256:[0-9a-f]{64}$/,
    )
  })

  test('a blob is read back byte by byte', async () => {
    await target().pull()

    expect(await target().ctr(['content', 'get', fixture.config.digest])).toEqual({
      code: 0,
      stdout: Buffer.from(fixture.config.bytes).toString(),
      stderr: '',
    })
  })

  test('a blob is taken in, labelled, found by its label and removed', async () => {
    const digest = sha256(Buffer.from(TEXT))
    await using _ = await hold(target(), 'content', [digest])
    const ingest = [
      'content',
      'ingest',
      '--expected-size',
      String(TEXT.length),
      '--expected-digest',
      digest,
      'upload-1',
    ]
    expect(await target().ctr(ingest, { stdin: TEXT })).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(await target().ctr(['content', 'label', digest, 'kind=text'])).toEqual({
      code: 0,
      stdout: 'kind=text\n',
      stderr: '',
    })
    expect((await target().ctr(['content', 'ls', '-q', 'labels.kind==text'])).stdout).toBe(`${digest}\n`)
    expect((await target().ctr(['content', 'get', digest])).stdout).toBe(TEXT)
    expect((await target().ctr(['content', 'rm', digest])).code).toBe(0)
    expect((await target().ctr(['content', 'get', digest])).code).toBe(1)
  })

  test('a blob that is not what was promised is refused', async () => {
    const other = sha256(Buffer.from('something else'))

    const wrongDigest = await target().ctr(['content', 'ingest', '--expected-digest', other, 'upload-2'], {
      stdin: TEXT,
    })
    expect(wrongDigest.code).toBe(1)
    expect(wrongDigest.stderr).toContain(`unexpected commit digest ${sha256(Buffer.from(TEXT))}, expected ${other}`)
    const wrongSize = await target().ctr(['content', 'ingest', '--expected-size', '5', 'upload-3'], { stdin: TEXT })
    expect(wrongSize.code).toBe(1)
    expect((await target().ctr(['content', 'get', other])).code).toBe(1)
  })

  test('an unfinished upload is shown and can be given up', async () => {
    const shown = Promise.withResolvers<void>()
    const uploading = target().ctr(['content', 'ingest', 'upload-4'], { stdin: TEXT, hold: shown.promise })
    const active = async () => (await target().ctr(['content', 'active'])).stdout

    await until('the upload is shown', async () => (await active()).includes('upload-4'))
    shown.resolve()
    expect((await uploading).code).toBe(0)
    expect(await active()).not.toContain('upload-4')
    await target().ctr(['content', 'rm', sha256(Buffer.from(TEXT))])
  })

  test('an unknown blob is named', async () => {
    const digest = sha256(Buffer.from('never written'))

    expect(await target().ctr(['content', 'get', digest])).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(new RegExp(`^ctr: .*${digest}: not found\n$`)),
    })
    expect((await target().ctr(['content', 'get', 'sha256:short'])).code).toBe(1)
  })
})
