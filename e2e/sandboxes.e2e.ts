/** Groups of containers: records of sandboxes, and namespaces that containers share. */
import { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { clientOf, connect } from '@gantry/rpc/client'
import { afterEach, beforeAll, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { onGantry } from './harness/target.ts'

onGantry((target) => {
  const image = inject('image')
  const gantry = (...args: string[]) => run([GANTRY, ...args], { env: gantryEnv(target().address, target().namespace) })

  beforeAll(async () => {
    await target().pull()
  })
  afterEach(() => target().sweep())

  test('records of sandboxes are kept, and nobody runs them', async () => {
    await using channel = connect(target().address)
    const [store, controller] = [clientOf(Store, channel), clientOf(Controller, channel)]
    const call = { namespace: target().namespace, signal: AbortSignal.timeout(20_000) }
    const sandbox = { sandboxId: 'pod', sandboxer: 'shim', runtime: { name: 'io.containerd.runc.v2' } }

    await store.create({ sandbox }, call)
    expect((await store.list({ filters: ['id==pod'] }, call)).list).toMatchObject([sandbox])
    for (const [sandboxer, code] of [
      ['', 'invalid-argument'],
      ['nobody', 'not-found'],
      ['shim', 'unimplemented'],
    ] as const)
      await expect(controller.create({ sandboxId: 'pod', sandboxer }, call)).rejects.toMatchObject({ code })
    await store.delete({ sandboxId: 'pod' }, call)
    await expect(store.get({ sandboxId: 'pod' }, call)).rejects.toMatchObject({ code: 'not-found' })
  })

  test('containers share network, ipc and processes with one that runs', async () => {
    const script = 'for n in net ipc pid; do readlink /proc/self/ns/$n; done'
    await gantry('run', '-d', '--name', 'first', image, 'sleep', '1000')
    const { stdout } = await gantry('exec', 'first', 'sh', '-c', script)
    const flags = ['--net', 'container:first', '--ipc', 'container:first', '--pid', 'container:first']

    expect(await gantry('run', '--rm', ...flags, image, 'sh', '-c', script)).toEqual({ code: 0, stdout, stderr: '' })
    expect((await gantry('run', '--rm', ...flags, image, 'ps')).stdout).toContain('sleep 1000')
    await gantry('kill', 'first')
    expect(await gantry('run', '--rm', ...flags, image, 'true')).toMatchObject({
      code: 125,
      stderr: expect.stringContaining('it is not running'),
    })
  })
})
