import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, fromBinary } from '@bufbuild/protobuf'
import { AnySchema } from '@bufbuild/protobuf/wkt'
import { type Content, WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { CheckpointOptionsSchema } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { Fault } from '@gantry/model/fault'
import type { Client } from '@gantry/rpc/client'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createCheckpoints } from './checkpoint.ts'
import { checkpointContainer } from './runtime/checkpoint.ts'
import type { RuntimeTask } from './runtime/runtime.ts'

// criu works on few kernels, so what makes the dump is made up here; what becomes of it is not

const PATH = '/usr/bin:/bin'
const call = { namespace: 'test', lease: 'mine', signal: new AbortController().signal }
const spec = create(AnySchema, {
  typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec',
  value: Buffer.from('{}'),
})
const wish = create(CheckpointOptionsSchema, { exit: true, cgroupsMode: 'soft', emptyNamespaces: ['network'] })
const request = { namespace: 'test', id: 'box', wish, spec }
let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-checkpoint-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** A content store that holds what is committed to it, and may refuse. */
function contentStore(refusal?: Fault) {
  const blobs = new Map<string, Buffer>()
  const [aborted, leases]: [string[], unknown[]] = [[], []]
  type Requests = Parameters<Client<typeof Content>['write']>[0]
  async function* write(requests: Requests, { lease }: { lease?: string }) {
    const chunks: Uint8Array[] = []
    for await (const { action, data, offset, total, expected = '' } of requests) {
      if (data) expect(offset).toBe(BigInt(chunks.reduce((sum, each) => sum + each.length, 0)))
      if (data) chunks.push(data)
      if (refusal && (action === WriteAction.COMMIT || refusal.code !== 'already-exists')) throw refusal
      if (action !== WriteAction.COMMIT) continue
      const bytes = Buffer.concat(chunks)
      expect([total, offset]).toEqual([BigInt(bytes.length), BigInt(bytes.length)])
      expect(expected).toBe(`sha256:${createHash('sha256').update(bytes).digest('hex')}`)
      blobs.set(expected, bytes)
      leases.push(lease)
      yield {}
    }
  }
  const abort = async ({ ref = '' }) => void aborted.push(ref)
  return { blobs, aborted, leases, client: { write, abort } as unknown as Client<typeof Content> }
}

function checkpointsInto(content: Client<typeof Content>, dump = async (to: string) => writeDump(to)) {
  const tasks = { checkpoint: (_ns: string, _id: string, { imagePath }: { imagePath: string }) => dump(imagePath) }
  return createCheckpoints({ tasks, content, folder: join(folder, 'dumps'), env: { PATH } })
}

function writeDump(to: string): void {
  for (const [name, size] of [
    ['-x.img', 3],
    ['pages-1.img', 500_000],
  ] as const)
    writeFileSync(join(to, name), Buffer.alloc(size, 7))
}

test('a checkpoint becomes an archive of the dump and the specification, under the lease of the call', async () => {
  const store = contentStore()

  const [dump, config, ...more] = await checkpointsInto(store.client)(request, call)

  const [archive, value] = [...store.blobs.values()]
  expect([dump, config, more]).toEqual([
    {
      mediaType: 'application/vnd.containerd.container.criu.checkpoint.criu.tar',
      ...{ digest: [...store.blobs.keys()][0], size: BigInt(archive?.length ?? 0) },
    },
    {
      mediaType: 'application/vnd.containerd.container.checkpoint.config.v1+proto',
      ...{ digest: [...store.blobs.keys()][1], size: BigInt(value?.length ?? 0) },
    },
    [],
  ])
  expect(fromBinary(AnySchema, value ?? Buffer.of())).toEqual(spec)
  execFileSync('tar', ['--extract', '--directory', folder], { input: archive })
  expect(readFileSync(join(folder, 'pages-1.img'))).toEqual(Buffer.alloc(500_000, 7))
  expect(existsSync(join(folder, '-x.img'))).toBe(true)
  expect(store.leases).toEqual(['mine', 'mine'])
  expect(readdirSync(join(folder, 'dumps'))).toEqual([])
})

test('a blob that is there already is well', async () => {
  const store = contentStore(new Fault('already-exists', 'blob'))

  expect(await checkpointsInto(store.client)(request, call)).toHaveLength(2)
})

test('a dump that fails, and an upload that does, leave nothing', async () => {
  const [store, full] = [contentStore(), contentStore(new Fault('resource-exhausted', 'full'))]
  const failing = checkpointsInto(store.client, async () => {
    throw new Fault('failed-precondition', 'no criu')
  })

  await expect(failing(request, call)).rejects.toMatchObject({ code: 'failed-precondition' })
  await expect(checkpointsInto(full.client)(request, call)).rejects.toMatchObject({ code: 'resource-exhausted' })
  await expect(
    checkpointsInto(contentStore().client, async (to) => rmSync(to, { recursive: true }))(request, call),
  ).rejects.toThrow()

  expect([store.blobs.size, full.aborted]).toEqual([0, [expect.stringMatching(/^gantry-checkpoint-/)]])
  expect(readdirSync(join(folder, 'dumps'))).toEqual([])
})

test('the runtime is told what the client wants, and one without criu is named', async () => {
  writeFileSync(join(folder, 'criu'), '#!/bin/sh\n', { mode: 0o755 })
  const runtime = join(folder, 'runtime')
  writeFileSync(runtime, `#!/bin/sh\necho "$@" >${folder}/told\n`, { mode: 0o755 })
  const commanding = {
    env: { PATH: `${folder}:${PATH}` },
    reach: (program: string) => ({ program, args: [], [Symbol.dispose]() {} }),
  }
  const task = { id: 'box', runtime: { binary: runtime, root: '/state' } } as RuntimeTask

  await checkpointContainer(task, { ...wish, imagePath: '/to' }, commanding)

  expect(readFileSync(join(folder, 'told'), 'utf8')).toBe(
    '--root /state --log-format json checkpoint --image-path /to --manage-cgroups-mode soft --empty-ns network box\n',
  )
  writeFileSync(runtime, '#!/bin/sh\necho unknown command checkpoint >&2\nexit 1\n', { mode: 0o755 }) // as crun says it
  await expect(checkpointContainer(task, { ...wish, imagePath: '/to' }, commanding)).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringContaining('is built without criu; run the container by runc'),
  })
})
