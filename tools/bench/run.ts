/**
 * How fast containers start and processes are executed in them, by `ctr` on both sides; `gantry exec` beside `ctr tasks exec`. And
 * how long it takes from the creation of a task to its deletion: asked by our client, on both sides, and then of the service
 * itself, without client and gateway.
 */
import { join } from 'node:path'
import { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { createClient } from '@gantry/client/client'
import { run } from '@gantry/e2e/harness/command'
import { GANTRY, gantryEnv } from '@gantry/e2e/harness/gantry'
import { clientOf, connect, connectOwner } from '@gantry/rpc/client'
import { ctr, inTurns, print, type Row, type Side, timed, withSides } from './sides.ts'

const RUNS = 20
const ROUNDS_OF_TEN = 6
const CONNECT_MS = 5000

await withSides(async (sides, image) => {
  print([
    ...(await benchRuns(sides, image)),
    ['create to delete of a task', 'ms', ...(await inTurns(sides, RUNS, (side, round) => lifeOf(side, image, round)))],
    [
      'the same inside the service',
      'ms',
      ...(await inTurns(sides, RUNS, (side, round) => bareLifeOf(side, image, round))),
    ],
    ...(await benchExecs(sides, image)),
  ])
})

async function benchRuns(sides: readonly Side[], image: string): Promise<Row[]> {
  const once = (side: Side, id: string) => ctr(side, 'run', '--rm', image, id, 'true')
  for (const side of sides) await once(side, 'warm')
  const one = await inTurns(sides, RUNS, (side, round) => timed(() => once(side, `one${round}`)))
  const ten = await inTurns(sides, ROUNDS_OF_TEN, (side, round) =>
    timed(() => Promise.all(Array.from({ length: 10 }, (_, index) => once(side, `ten${round}-${index}`)))),
  )
  return [
    ['ctr run --rm IMAGE true', 'ms', ...one],
    ['ten of them at once', 'ms', ...ten],
  ]
}

/** Milliseconds from before Create until after Delete; the container's record and snapshot are there. */
async function lifeOf({ node, namespace }: Side, image: string, round: number): Promise<number> {
  const { signal } = new AbortController()
  await using client = createClient({ address: node.address, namespace })
  const id = `life${round}`
  const container = await client.containers.create({ id, image, spec: { args: ['true'] } }, signal)
  const ms = await timed(async () => {
    const task = await client.tasks.create(container, { stdio: {} }, signal)
    const ended = task.wait(signal)
    await task.start(signal)
    await ended
    await task.delete(signal)
  })
  await client.containers.delete(id, {}, signal)
  return ms
}

/** The same calls, without stdio, asked of the owner of tasks as the gateway asks it; containerd has one socket for all. */
async function bareLifeOf({ name, node, dir, namespace }: Side, image: string, round: number): Promise<number> {
  const call = { namespace, signal: new AbortController().signal }
  await using client = createClient({ address: node.address, namespace })
  await using channel = name === 'gantry' ? connectOwner(join(dir, 's', 'tasks.sock')) : connect(node.address)
  if (name === 'gantry') await channel.stream.hop(CONNECT_MS)
  const tasks = clientOf(Tasks, channel)
  const containerId = `bare${round}`
  const { rootfs } = await client.containers.create({ id: containerId, image, spec: { args: ['true'] } }, call.signal)
  if (rootfs === undefined) throw new Error('The new container has no mounts')
  await tasks.list({}, call) // connected
  const ms = await timed(async () => {
    await tasks.create(
      { containerId, rootfs: rootfs.map((mount) => ({ ...mount, options: [...mount.options] })) },
      call,
    )
    const ended = tasks.wait({ containerId }, call)
    await tasks.start({ containerId }, call)
    await ended
    await tasks.delete({ containerId }, call)
  })
  await client.containers.delete(containerId, {}, call.signal)
  return ms
}

async function benchExecs(sides: readonly Side[], image: string): Promise<Row[]> {
  for (const side of sides) await ctr(side, 'run', '-d', image, 'box', 'sleep', '1000')
  const byCtr = (side: Side, round: number) => ctr(side, 'tasks', 'exec', '--exec-id', `x${round}`, 'box', 'true')
  const byBoth = async (side: Side, round: number) => {
    if (side.name === 'containerd') return byCtr(side, round)
    const env = gantryEnv(side.node.address, side.namespace)
    const { code, stderr } = await run([GANTRY, 'exec', 'box', 'true'], { env })
    if (code !== 0) throw new Error(`gantry exec: ${stderr}`)
  }
  for (const side of sides) await byBoth(side, -1)
  const rows: Row[] = [
    ['ctr tasks exec true', 'ms', ...(await inTurns(sides, RUNS, (side, round) => timed(() => byCtr(side, round))))],
    [
      'gantry exec true / ctr tasks exec',
      'ms',
      ...(await inTurns(sides, RUNS, (side, round) => timed(() => byBoth(side, round + RUNS)))),
    ],
  ]
  for (const side of sides) {
    await ctr(side, 'tasks', 'rm', '-f', 'box')
    await ctr(side, 'containers', 'rm', 'box')
  }
  return rows
}
