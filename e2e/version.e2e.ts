import { expect, test } from 'vitest'
import { onEveryTarget } from './harness/target.ts'
import { rows } from './harness/text.ts'

onEveryTarget((target) => {
  test('version names the client and the server', async () => {
    const { code, stdout, stderr } = await target().ctr(['version'])

    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.not.stringContaining('ctr:') })
    expect(stdout).toMatch(
      /Server:\n +Version: +\S+\n +Revision: +\S+\n +UUID: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n/,
    )
  })

  test('the UUID of the server stays the same', async () => {
    const first = await target().ctr(['version'])
    const second = await target().ctr(['version'])

    expect(first.stdout).toBe(second.stdout)
  })

  test('plugins ls lists the plugins clients look for, and they are fine', async () => {
    const { code, stdout } = await target().ctr(['plugins', 'ls'])
    const plugins = rows(stdout).map(([type, id, , status]) => `${type} ${id} ${status}`)

    expect(code).toBe(0)
    expect(plugins).toEqual(
      expect.arrayContaining([
        'io.containerd.content.v1 content ok',
        'io.containerd.snapshotter.v1 overlayfs ok',
        'io.containerd.metadata.v1 bolt ok',
        'io.containerd.differ.v1 walking ok',
        'io.containerd.runtime.v2 task ok',
        ...[
          'containers',
          'content',
          'diff',
          'events',
          'images',
          'introspection',
          'leases',
          'namespaces',
          'snapshots',
          'tasks',
          'version',
        ].map((id) => `io.containerd.grpc.v1 ${id} ok`),
      ]),
    )
  })

  test('plugins ls takes a filter', async () => {
    const { code, stdout } = await target().ctr(['plugins', 'ls', 'id==overlayfs'])

    expect(code).toBe(0)
    expect(rows(stdout).map(([type, id]) => [type, id])).toEqual([['io.containerd.snapshotter.v1', 'overlayfs']])
  })

  test('a namespace is made, labelled, listed and removed', async () => {
    const name = target().anotherNamespace()

    expect(await target().ctr(['ns', 'create', name, 'x=y'])).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(rows((await target().ctr(['ns', 'ls'])).stdout)).toContainEqual([name, 'x=y'])
    expect((await target().ctr(['ns', 'create', name])).stderr).toMatch(
      new RegExp(`^ctr: .*"${name}".*: already exists\n$`),
    )
    expect(await target().ctr(['ns', 'label', name, 'z=1'])).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(rows((await target().ctr(['ns', 'ls'])).stdout)).toContainEqual([name, 'x=y,z=1'])
    expect(await target().ctr(['ns', 'label', name, 'x='])).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(rows((await target().ctr(['ns', 'ls'])).stdout)).toContainEqual([name, 'z=1'])
    expect(await target().ctr(['ns', 'rm', name])).toEqual({ code: 0, stdout: `${name}\n`, stderr: '' })
    expect((await target().ctr(['ns', 'ls', '-q'])).stdout.split('\n')).not.toContain(name)
  })

  test('a namespace that is not empty is not removed', async () => {
    const name = target().anotherNamespace()
    await target().ctr(['-n', name, 'snapshots', 'prepare', 'one'])

    const removed = await target().ctr(['ns', 'rm', name])
    expect(removed.code).toBe(1)
    expect(removed.stderr).toMatch(/empty.*: failed precondition$/m)

    await target().ctr(['-n', name, 'snapshots', 'rm', 'one'])
    expect((await target().ctr(['ns', 'rm', name])).code).toBe(0)
  })
})
