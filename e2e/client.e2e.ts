/** The sample of the client's README, as a program outside of this repository compiles and runs it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { WORKSPACE } from './harness/gantry.ts'
import { onGantry } from './harness/target.ts'

const STRICT = ['--strict', '--noEmit', '--module', 'nodenext', '--target', 'esnext', '--types', 'node']
const TYPED = 'until [ "$(stty size)" = "24 80" ]; do sleep 0.1; done; echo resized $((40 * 2))\nexit 5\n'

onGantry((target) => {
  test('the sample of its README pulls an image, runs a container, tells what happened', async () => {
    const readme = readFileSync(join(WORKSPACE, 'libs', 'client', 'README.md'), 'utf8')
    const sample = /```ts\n(.*?)```/s.exec(readme)?.[1] ?? ''
    const folder = mkdtempSync(join(tmpdir(), 'gantry-sample-'))
    const here = sample
      .replace('/run/gantry/gantry.sock', target().address)
      .replace("namespace: 'default'", `namespace: '${target().namespace}'`)
      .replace("normalizeReference('busybox')", `normalizeReference('${inject('image')}')`)
      .replace('/tmp/box.log', join(folder, 'box.log'))
    try {
      await install(folder)
      writeFileSync(join(folder, 'sample.mts'), here)

      const compiled = await run([join(WORKSPACE, 'node_modules', '.bin', 'tsc'), ...STRICT, 'sample.mts'], {
        cwd: folder,
      })
      expect(compiled).toEqual({ code: 0, stdout: '', stderr: '' })
      const { code, stdout, stderr } = await run([process.execPath, 'sample.mts'], {
        ...{ cwd: folder, stdin: TYPED, hold: 2000 },
      })

      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      for (const said of ['resized 80', 'the shell left with 5\n', 'exit status 137\n']) expect(stdout).toContain(said)
      expect(stdout).toMatch(/^\d+n \/tasks\/exit$/m)
      expect(readFileSync(join(folder, 'box.log'), 'utf8')).toBe('hello\n')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

/** What `npm install` would make of the packed client, without a registry. */
async function install(folder: string): Promise<void> {
  const packed = await run([
    process.execPath,
    join(WORKSPACE, 'tools', 'pack-client.ts'),
    join(folder, 'node_modules', '@gantry', 'client'),
  ])
  expect(packed).toEqual({ code: 0, stdout: '', stderr: '' })
  for (const name of ['@bufbuild/protobuf', '@grpc/grpc-js', 'koffi', '@types/node']) {
    const link = join(folder, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(join(WORKSPACE, 'node_modules', name), link)
  }
}
