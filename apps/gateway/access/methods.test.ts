import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { DescFile } from '@bufbuild/protobuf'
import { pathOf } from '@gantry/rpc/service'
import { expect, test } from 'vitest'
import { METHODS } from './methods.ts'

const GENERATED = join(import.meta.dirname, '../../../libs/api/gen/containerd/services')

/** Every service of containerd's public API, read from what was generated: the ttrpc twin is not served here. */
async function publicMethods() {
  const names = readdirSync(GENERATED, { recursive: true, encoding: 'utf8' })
  const files = names.filter((name) => name.endsWith('_pb.ts') && !name.startsWith('ttrpc/'))
  const modules = await Promise.all(files.map((name): Promise<object> => import(join(GENERATED, name))))
  const found = modules.flatMap((module) => Object.values(module) as DescFile[]).filter(({ kind }) => kind === 'file')
  return found.flatMap(({ services }) => services).flatMap(({ methods }) => methods)
}

test('every method of the public API is said to read or to write', async () => {
  const methods = await publicMethods()

  expect(methods.length).toBeGreaterThan(80)
  expect(methods.map(pathOf).filter((path) => !METHODS.has(path))).toEqual([])
})

test('the audit log finds the name in the request of every write', async () => {
  const names: Record<string, string> = {}
  for (const method of await publicMethods()) {
    const { kind, target } = METHODS.get(pathOf(method)) ?? {}
    if (kind !== 'write') continue
    const [number, inner] = target?.fields ?? []
    const field = method.input.fields.find((candidate) => candidate.number === number)
    const holder = field?.fieldKind === 'message' ? field.message : undefined
    const name = holder?.fields.find((candidate) => candidate.number === inner)?.name
    names[pathOf(method).replace(/^.*\./, '')] = [field?.name, name].filter(Boolean).join('.')
  }

  expect(names).toMatchInlineSnapshot(`
    {
      "Containers/Create": "container.id",
      "Containers/Delete": "id",
      "Containers/Update": "container.id",
      "Content/Abort": "ref",
      "Content/Delete": "digest",
      "Content/Update": "info.digest",
      "Content/Write": "ref",
      "Controller/Create": "sandbox_id",
      "Controller/Shutdown": "sandbox_id",
      "Controller/Start": "sandbox_id",
      "Controller/Stop": "sandbox_id",
      "Controller/Update": "sandbox_id",
      "Diff/Apply": "diff.digest",
      "Diff/Diff": "ref",
      "Events/Forward": "envelope.topic",
      "Events/Publish": "topic",
      "Images/Create": "image.name",
      "Images/Delete": "name",
      "Images/Update": "image.name",
      "Leases/AddResource": "id",
      "Leases/Create": "id",
      "Leases/Delete": "id",
      "Leases/DeleteResource": "id",
      "Mounts/Activate": "name",
      "Mounts/Deactivate": "name",
      "Mounts/Update": "info.name",
      "Namespaces/Create": "namespace.name",
      "Namespaces/Delete": "name",
      "Namespaces/Update": "namespace.name",
      "Snapshots/Cleanup": "",
      "Snapshots/Commit": "name",
      "Snapshots/Prepare": "key",
      "Snapshots/Remove": "key",
      "Snapshots/Update": "info.name",
      "Snapshots/View": "key",
      "Store/Create": "sandbox.sandbox_id",
      "Store/Delete": "sandbox_id",
      "Store/Update": "sandbox.sandbox_id",
      "Streaming/Stream": "value",
      "Tasks/Checkpoint": "container_id",
      "Tasks/CloseIO": "container_id",
      "Tasks/Create": "container_id",
      "Tasks/Delete": "container_id",
      "Tasks/DeleteProcess": "container_id",
      "Tasks/Exec": "container_id",
      "Tasks/Kill": "container_id",
      "Tasks/Pause": "container_id",
      "Tasks/ResizePty": "container_id",
      "Tasks/Resume": "container_id",
      "Tasks/Start": "container_id",
      "Tasks/Update": "container_id",
      "Transfer/Transfer": "destination.value",
    }
  `)
})
