/**
 * The API of Gantry beside that of Debian's containerd, in turns, by one native client for both. What counts is the ratio.
 * Run it with `npm run bench api`.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import {
  Containers,
  GetContainerRequestSchema,
  ListContainersRequestSchema,
} from '@gantry/api/containerd/services/containers/v1/containers_pb'
import {
  ReadContentRequestSchema,
  WriteAction,
  WriteContentRequestSchema,
} from '@gantry/api/containerd/services/content/v1/content_pb'
import { startContainerd } from '@gantry/e2e/harness/containerd'
import { startGantry } from '@gantry/e2e/harness/gantry'
import { processOf } from '@gantry/e2e/harness/kill'
import { pssOf } from '@gantry/e2e/harness/memory'
import type { Running } from '@gantry/e2e/harness/running'
import { clientOf, connect } from '@gantry/rpc/client'
import { h2load, type Load } from './h2load.ts'

const MIB = 1024 * 1024
const ROUNDS = Number(process.env.GANTRY_BENCH_ROUNDS ?? 3)
const WARM_UP = 4 // as many calls as so many rounds have are not counted: a service runs for days, and V8 compiles what is run often
const BLOB_MIB = Number(process.env.GANTRY_BENCH_MIB ?? 1024)
const MESSAGE = 1 * MIB // bytes of each message of Write
const CONTAINERS = 1000
const NAMESPACE = 'bench'
const EMPTY = new Uint8Array()

interface Side {
  readonly name: string
  readonly node: Running
}

const dir = mkdtempSync(join(tmpdir(), 'ga-'))
try {
  for (const folder of ['c/r', 'c/s', 'g/r', 'g/s']) mkdirSync(join(dir, folder), { recursive: true })
  await using containerd = await startContainerd(join(dir, 'c', 'r'), join(dir, 'c', 's'))
  await using gantry = await startGantry(join(dir, 'g', 'r'), join(dir, 'g', 's'))
  const sides: Side[] = [
    { name: 'containerd', node: containerd },
    { name: 'gantry', node: gantry },
  ]
  for (const { node } of sides) await createContainers(node.address)
  const before = memoryOf(gantry)

  for (const callers of [1, 16, 64]) {
    const calls = callers === 1 ? 3000 : 20_000
    await compare(
      sides,
      `Version, ${callers} callers`,
      'calls/s',
      call('version.v1.Version/Version', EMPTY, { callers, calls }),
    )
    const get = bytesOf(GetContainerRequestSchema, { id: 'c1' })
    await compare(
      sides,
      `Containers.Get, ${callers} callers`,
      'calls/s',
      call('containers.v1.Containers/Get', get, { callers, calls }),
    )
  }
  const warm = memoryOf(gantry)
  const list = bytesOf(ListContainersRequestSchema, {})
  await compare(
    sides,
    `List of ${CONTAINERS} containers`,
    'calls/s',
    call('containers.v1.Containers/List', list, { callers: 1, calls: 40 }),
  )
  await compareWrites(sides)
  if (before > 0)
    process.stdout.write(
      `gateway: ${before.toFixed(0)} MB before, ${warm.toFixed(0)} after the small calls, ${memoryOf(gantry).toFixed(0)} after all\n`,
    )
} finally {
  rmSync(dir, { recursive: true, force: true })
}

function call(method: string, message: Uint8Array, { callers, calls }: Pick<Load, 'callers' | 'calls'>): Load {
  return { path: `/containerd.services.${method}`, namespace: NAMESPACE, messages: [message], callers, calls }
}

async function compare(sides: readonly Side[], what: string, unit: string, load: Load): Promise<void> {
  const results = sides.map(() => [] as number[])
  for (const { node } of sides) await h2load(node.address, { ...load, calls: WARM_UP * load.calls })
  for (let round = 0; round < ROUNDS; round++)
    for (const [at, { node }] of sides.entries()) results[at]?.push((await h2load(node.address, load)).callsPerSecond)
  print(what, unit, results)
}

/** Writes a blob and reads it; MB are 10^6 bytes. */
async function compareWrites(sides: readonly Side[]): Promise<void> {
  const written = sides.map(() => [] as number[])
  const read = sides.map(() => [] as number[])
  const megabytes = (BLOB_MIB * MIB) / 1e6
  for (let round = 0; round < ROUNDS; round++) {
    const part = randomBytes(MESSAGE)
    const hash = createHash('sha256')
    const messages: Uint8Array[] = []
    for (let at = 0; at < BLOB_MIB; at++) {
      part.writeUInt32BE(at)
      hash.update(part)
      const [offset, data] = [BigInt(at * MESSAGE), Buffer.from(part)]
      messages.push(bytesOf(WriteContentRequestSchema, { action: WriteAction.WRITE, ref: `r${round}`, offset, data }))
    }
    const expected = `sha256:${hash.digest('hex')}`
    const total = BigInt(BLOB_MIB * MIB)
    const labels = { 'containerd.io/gc.root': 'bench' }
    messages.push(
      bytesOf(WriteContentRequestSchema, { action: WriteAction.COMMIT, offset: total, total, expected, labels }),
    )
    const write = { path: '/containerd.services.content.v1.Content/Write', namespace: NAMESPACE, messages }
    for (const [at, { node }] of sides.entries())
      written[at]?.push(megabytes / (await h2load(node.address, { ...write, callers: 1, calls: 1 })).seconds)
    const load = call('content.v1.Content/Read', bytesOf(ReadContentRequestSchema, { digest: expected }), {
      callers: 1,
      calls: 1,
    })
    for (const [at, { node }] of sides.entries()) read[at]?.push(megabytes / (await h2load(node.address, load)).seconds)
  }
  print(`Content.Write of ${BLOB_MIB} MiB`, 'MB/s', written)
  print(`Content.Read of ${BLOB_MIB} MiB`, 'MB/s', read)
}

function print(what: string, unit: string, results: readonly (readonly number[])[]): void {
  const [theirs = 0, ours = 0] = results.map((all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? 0)
  const figures = `${theirs.toFixed(0)} containerd, ${ours.toFixed(0)} gantry ${unit}`
  process.stdout.write(`${what}: ${figures}, ratio ${(ours / theirs).toFixed(2)}\n`)
}

async function createContainers(address: string): Promise<void> {
  await using channel = connect(address)
  const client = clientOf(Containers, channel)
  const spec = { typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec', value: Buffer.alloc(4000, ' ') }
  for (let at = 0; at < CONTAINERS; at++)
    await client.create(
      { container: { id: `c${at}`, runtime: { name: 'io.containerd.runc.v2' }, spec } },
      { signal: AbortSignal.timeout(10_000), namespace: NAMESPACE },
    )
}

function memoryOf(node: Running): number {
  const pid = processOf(node, 'gateway')
  return pid === undefined ? 0 : pssOf([pid])
}

function bytesOf<S extends DescMessage>(schema: S, init: MessageInitShape<S>): Uint8Array {
  return toBinary(schema, create(schema, init))
}
