/** The sample of the client's README, as a reader would run it. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { WORKSPACE } from './harness/gantry.ts'
import { onGantry } from './harness/target.ts'

onGantry((target) => {
  test('the sample of its README pulls an image and runs a container', async () => {
    const readme = readFileSync(join(WORKSPACE, 'libs', 'client', 'README.md'), 'utf8')
    const sample = /```ts\n(.*?)```/s.exec(readme)?.[1] ?? ''
    const here = sample
      .replace('/run/gantry/gantry.sock', target().address)
      .replace("namespace: 'default'", `namespace: '${target().namespace}'`)
      .replace('docker.io/library/busybox:latest', inject('image'))
    const file = join(WORKSPACE, 'e2e', `sample-${process.pid}.ts`) // where the package is found
    writeFileSync(file, here)
    try {
      const { code, stdout, stderr } = await run([process.execPath, file])

      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout.split('\n').slice(-3)).toEqual(['hello', 'exit status 0', ''])
    } finally {
      rmSync(file)
    }
  })
})
