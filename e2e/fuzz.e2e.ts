/**
 * Random requests of every method against a node. For longer than a moment: GANTRY_FUZZ_SECONDS=3600, and GANTRY_FUZZ_SEED for
 * another sequence; the seed of each round is printed with what is wrong in it, and begins one that repeats it.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createClient, type GantryClient } from '@gantry/client/client'
import { ignoring } from '@gantry/model/fault'
import fc from 'fast-check'
import { expect, inject, test } from 'vitest'
import { type FuzzCall, fuzzCall } from './fuzz/calls.ts'
import { clear, endTask } from './fuzz/clear.ts'
import { complaintOf } from './fuzz/judge.ts'
import { METHODS } from './fuzz/methods.ts'
import type { Ground } from './fuzz/values.ts'
import { frame, openWire, poke, type RawReply, type Wire } from './fuzz/wire.ts'
import { until } from './harness/daemon.ts'
import { makeImage } from './harness/image.ts'
import { onGantry } from './harness/target.ts'

const SECONDS = Number(process.env.GANTRY_FUZZ_SECONDS ?? 0) // 0 is a fixed number of rounds
const ROUNDS = 4
const SEED = Number(process.env.GANTRY_FUZZ_SEED ?? 1)
const WITHIN_MS = 60_000 // on a busy machine
const BATCHES = 60 // of a round; each a few calls at once

const UNIMPLEMENTED = 12
const ENDED = { halfOpen: false, patienceMs: 30_000 }
const VERSION = {
  ...{ path: '/containerd.services.version.v1.Version/Version', body: frame(new Uint8Array()), headers: {} },
  ...{ ...ENDED, broken: true, bounded: true },
}

onGantry((target) => {
  test('every call is answered with a code, and the node is well after it', {
    timeout: (SECONDS + 240) * 1000,
  }, async () => {
    const ground = await makeGround()
    using _ = { [Symbol.dispose]: () => void execFileSync('umount', [ground.ground]) }
    using wire = openWire(target().address)
    const batch = fc.array(fuzzCall(METHODS, ground), { minLength: 1, maxLength: 24, size: 'max' })
    const pids = [...target().pids()].sort()
    const tally: Tally = new Map()
    const wrong: string[] = []
    const end = Date.now() + SECONDS * 1000
    const goesOn = () => (SECONDS > 0 ? Date.now() < end : round < ROUNDS)
    let round = 0
    for (; goesOn() && wrong.length < 20; round++) {
      await liven(ground)
      for (const calls of fc.sample(batch, { seed: SEED + round, numRuns: BATCHES })) {
        if (!goesOn()) break
        wrong.push(...(await tried(wire, calls, tally)).map((each) => `seed ${SEED + round}: ${each}`))
      }
    }
    report(tally, round)
    const after = { pids: [...target().pids()].sort(), canary: readdirSync(ground.canary) }
    expect.soft({ wrong, failures: failures(target().daemon.log()) }).toEqual({ wrong: [], failures: [] })
    expect.soft(after).toEqual({ pids, canary: ['file'] }) // nobody died

    await clear(target().address)
    expect(bundles()).toEqual([])
  })

  test('what is no call of the API is refused, and hurts nobody', async () => {
    const { address, daemon } = target()
    const told = daemon.log().length
    using wire = openWire(address)
    const call = (path: string, headers = {}) => wire.call({ path, headers, body: frame(new Uint8Array()), ...ENDED })
    const internal = ['owner.v1.Owner/Holdings', 'content.v1.Blobs/Locate', 'collection.v1.Collection/Pause']
    const unknown = [
      '/',
      '//',
      '/x',
      '/x/y',
      '/containerd.services.version.v1.Version/Nope',
      '/grpc.health.v1.Health/x',
    ]
    for (const path of [...unknown, ...internal.map((name) => `/gantry.${name}`)])
      expect([path, (await call(path)).code]).toEqual([path, UNIMPLEMENTED])
    for (const headers of [{ ':method': 'GET' }, { 'content-type': 'text/plain' }, { x: 'y'.repeat(60_000) }])
      expect(complaintOf({ ...VERSION, headers }, await call(VERSION.path, headers))).toBe(undefined)
    const http = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
    const junk = fc.sample(fc.uint8Array({ minLength: 1, maxLength: 200 }), { seed: SEED, numRuns: 20 })
    const pokes = [http, preface, ...junk.map((bytes) => Buffer.concat([Buffer.from(preface), bytes])), ...junk, '']
    await Promise.all(pokes.map((bytes) => poke(address, Buffer.from(bytes))))
    expect(await call(VERSION.path)).toMatchObject({ code: 0 })
    expect(failures(daemon.log().slice(told))).toEqual([])
  })

  /** What is left of containers, and of sandboxes. */
  function bundles(): string[] {
    const folders = ['bundles', 'sandboxes/bundles'].map((name) => join(target().dir, 'state', name))
    return folders
      .flatMap((folder) => (existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : []))
      .filter((path) => path.includes('/'))
  }

  /** A container that runs, for calls to meet; they may have done anything to the last one, and to its image. */
  async function liven(ground?: Ground): Promise<void> {
    let attempts = 0
    const runs = async () => {
      if (attempts++ > 0) await clear(target().address)
      await using client = createClient({ address: target().address, namespace: target().namespace })
      const signal = AbortSignal.timeout(30_000)
      const call = client.call(signal)
      const image = inject('image')
      await endTask(client.services.tasks, 'live', call)
      await ignoring('not-found', client.services.containers.delete({ id: 'live' }, call))
      await ignoring('not-found', client.services.snapshots.remove({ snapshotter: 'overlayfs', key: 'live' }, call))
      await ignoring('not-found', client.services.images.delete({ name: image, sync: true }, call))
      await target().pull()
      const container = await client.containers.create({ id: 'live', image, spec: { args: ['sleep', '1000'] } }, signal)
      const task = await client.tasks.create(container, { stdio: {} }, signal)
      await task.start(signal)
      if (ground) await furnish(client, ground)
      return true
    }
    await until('a container runs', runs, { withinMs: WITHIN_MS })
  }

  async function makeGround(): Promise<Ground> {
    const { dir, namespace } = target()
    const [folder, canary] = [join(dir, 'ground'), join(dir, 'canary')]
    for (const path of [folder, canary]) mkdirSync(path)
    writeFileSync(join(canary, 'file'), 'untouched')
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', folder])
    for (const name of ['a', 'b', 'u', 'w', 'runc']) mkdirSync(join(folder, name))
    writeFileSync(join(folder, 'file'), 'x'.repeat(70_000))
    execFileSync('mkfifo', [join(folder, 'fifo')])
    await liven()
    await using client = createClient({ address: target().address, namespace })
    const call = client.call(AbortSignal.timeout(20_000))
    const { container } = await client.services.containers.get({ id: 'live' }, call)
    const { mounts } = await client.services.snapshots.mounts({ snapshotter: 'overlayfs', key: 'live' }, call)
    const spec = JSON.parse(Buffer.from(container?.spec?.value ?? []).toString())
    spec.linux.cgroupsPath = `/${namespace}/c1`
    const { manifest, config, layers } = makeImage()
    return {
      namespaces: [namespace, target().anotherNamespace()],
      ground: folder,
      canary,
      nowhere: join(dir, 'nowhere'),
      references: [inject('image'), '127.0.0.1:1/none:1', `${inject('registry')}/nosuch:1`],
      digests: [manifest, config, ...layers].map(({ digest }) => digest),
      rootfs: mounts,
      spec: JSON.stringify(spec),
      tame: 3,
    }
  }
})

/** What calls may find beside it. */
async function furnish({ services, call }: GantryClient, { spec }: Ground): Promise<void> {
  const { containers, leases, snapshots } = services
  const once = { ...call(AbortSignal.timeout(30_000)), lease: 'c1' }
  const unless = (made: Promise<unknown>) => ignoring('already-exists', ignoring('not-found', made))
  const runtime = { name: 'io.containerd.runc.v2' }
  const value = { typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec', value: Buffer.from(spec) }
  await unless(leases.create({ id: 'c1' }, once))
  for (const id of ['c1', 'c2']) await unless(containers.create({ container: { id, runtime, spec: value } }, once))
  await unless(snapshots.prepare({ snapshotter: 'overlayfs', key: 'k2' }, once))
  await unless(snapshots.commit({ snapshotter: 'overlayfs', key: 'k2', name: 'base' }, once))
  await unless(snapshots.prepare({ snapshotter: 'overlayfs', key: 'k1', parent: 'base' }, once))
}

type Tally = Map<string, Map<string, number>>

/** Makes the calls at once. @returns what is wrong with their answers */
async function tried(wire: Wire, calls: readonly FuzzCall[], tally: Tally): Promise<string[]> {
  const replies = await Promise.all(calls.map((call) => wire.call(call)))
  return calls.flatMap((call, at) => {
    const reply = replies[at] as RawReply
    const of = tally.get(call.path) ?? new Map()
    const code = String(reply.code ?? (reply.hungUp ? 'left' : 'none'))
    tally.set(call.path, of.set(code, (of.get(code) ?? 0) + 1))
    const complaint = complaintOf(call, reply)
    return complaint === undefined
      ? []
      : [`${call.path} ${complaint} ${JSON.stringify(call.headers)} ${shown(call.body)}`]
  })
}

function shown(body: Uint8Array): string {
  return `${body.length} bytes ${Buffer.from(body.subarray(0, 400))
    .toString('latin1')
    .replace(/[^\x20-\x7e]+/g, '.')}`
}

/** What the processes themselves say went wrong, with the lines around it. */
function failures(log: string): string[] {
  const lines = log.split('\n')
  const isFailure = (line: string) => /A call failed|ncaught|nhandled|heap out/.test(line)
  return lines.flatMap((line, at) => (isFailure(line) ? [lines.slice(at, at + 12).join('\n')] : [])).slice(0, 10)
}

function report(tally: Tally, rounds: number): void {
  const calls = [...tally.values()].flatMap((of) => [...of.values()]).reduce((sum, count) => sum + count, 0)
  console.log(`${calls} calls in ${rounds} rounds from seed ${SEED}`)
  if (process.env.GANTRY_FUZZ_SECONDS === undefined) return
  for (const [path, codes] of [...tally].sort()) console.log(path, Object.fromEntries(codes))
}
