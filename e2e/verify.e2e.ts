/** Who may say no to an image, and what happens to blobs that rot: on a node as it is run. */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { GANTRY, gantryEnv, startGantry } from './harness/gantry.ts'
import { makeImage } from './harness/image.ts'
import { lastingTraces } from './harness/leaks.ts'

/** A node with its own folders and image verifiers; `gantry` runs our command line against it. */
async function onNode(
  body: (node: { dir: string; blobPath: (digest: string) => string; gantry: typeof gantryOf }) => Promise<void>,
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'ge-'))
  const namespace = `e2e${dir.slice(-6)}`
  const [root, state] = [join(dir, 'root'), join(dir, 'state')]
  for (const folder of [root, state, join(dir, 'verifiers')]) mkdirSync(folder)
  const config = join(dir, 'gantry.toml')
  writeFileSync(config, `[content]\nverifier_dir = "${dir}/verifiers"\nper_verifier_timeout_s = 1\n`)
  {
    await using node = await startGantry(root, state, ['--config', config])
    await body({
      dir,
      blobPath: (digest) => join(root, 'content', 'blobs', ...digest.split(':')),
      gantry: (...args) => run([GANTRY, ...args], { env: gantryEnv(node.address, namespace) }),
    })
  }
  expect(await lastingTraces({ dir, namespaces: [namespace], ids: new Set() })).toEqual([])
  rmSync(dir, { recursive: true }) // what a failed test leaves is there to be looked at
}
declare function gantryOf(...args: string[]): ReturnType<typeof run>

test('an image that a verifier of the host objects to is not there, and its reason is shown', async () => {
  await onNode(async ({ dir, gantry }) => {
    const image = inject('image')
    const verifier = join(dir, 'verifiers', 'policy')
    const say = (script: string) => {
      writeFileSync(verifier, `#!/bin/sh\necho "$@" > ${dir}/asked\n${script}\n`)
      chmodSync(verifier, 0o755)
    }

    say('echo nobody signed it; exit 1')
    const refused = await gantry('pull', '--plain-http', image)
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/"policy" rejects it \(exit code 1\): nobody signed it/),
    ])
    expect(readFileSync(join(dir, 'asked'), 'utf8')).toMatch(
      new RegExp(
        `^-name ${image} -digest sha256:[0-9a-f]{64} -stdin-media-type application/vnd.oci.descriptor.v1\\+json\n$`,
      ),
    )
    expect((await gantry('images', '-q')).stdout).toBe('')
    expect((await gantry('content', 'ls', '-q')).stdout).toBe('')
    expect(readdirSync(join(dir, 'root', 'content', 'ingest'))).toEqual([])

    say('sleep 60')
    expect((await gantry('pull', '--plain-http', image)).stderr).toMatch(/gave no answer within 1 s/)

    say('exit 0')
    expect(await gantry('pull', '--plain-http', image)).toMatchObject({ code: 0, stderr: '' })
  })
})

test('blobs that rotted are found, moved aside and pulled again', async () => {
  await onNode(async ({ dir, blobPath, gantry }) => {
    const image = inject('image')
    const { layers, config } = makeImage()
    const [flipped = config, cut = config] = layers
    expect(await gantry('pull', '--plain-http', image)).toMatchObject({ code: 0, stderr: '' })
    expect(await gantry('content', 'verify')).toEqual({
      code: 0,
      stdout: '4 blobs checked, 0 taken away\n',
      stderr: '',
    })

    for (const { digest } of [flipped, cut]) chmodSync(blobPath(digest), 0o600)
    const bytes = readFileSync(blobPath(flipped.digest))
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
    writeFileSync(blobPath(flipped.digest), bytes)
    writeFileSync(blobPath(cut.digest), readFileSync(blobPath(cut.digest)).subarray(1))
    rmSync(blobPath(config.digest))

    const { code, stdout } = await gantry('content', 'verify', '--json')
    const found = JSON.parse(stdout)
    expect(code).toBe(1)
    expect(found).toMatchObject({ checked: 4, bad: 3 })
    expect(found.rotten).toContainEqual(expect.objectContaining({ digest: config.digest, missing: true }))
    expect(found.rotten).toContainEqual(
      expect.objectContaining({
        digest: flipped.digest,
        path: blobPath(flipped.digest).replace('/blobs/', '/quarantine/'),
      }),
    )
    expect(readdirSync(join(dir, 'root', 'content', 'quarantine', 'sha256'))).toHaveLength(2)
    expect((await gantry('content', 'ls', '-q')).stdout.trim().split('\n')).toHaveLength(1)

    expect(await gantry('pull', '--plain-http', image)).toMatchObject({ code: 0, stderr: '' })
    expect(await gantry('content', 'verify')).toMatchObject({ code: 0, stdout: '4 blobs checked, 0 taken away\n' })
    expect((await gantry('content', 'verify', `sha256:${'0'.repeat(64)}`)).stderr).toMatch(/not found/)
  })
})
