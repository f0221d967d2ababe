/**
 * Gantry beside Debian's containerd: the same machine, the same run, the same `ctr`, measured in turns (A B A B) so that whatever else
 * the machine does hits both. What counts is the ratio.
 */

import { largeImage } from '@gantry/e2e/harness/large-image'
import { pidsOf } from '@gantry/e2e/harness/leaks'
import { pssOf } from '@gantry/e2e/harness/memory'
import type { Registry } from '@gantry/e2e/harness/registry'
import { callsPerSecond } from './calls.ts'
import { ctr, inTurns, print, type Row, type Side, timed, withSides } from './sides.ts'

const RUNS = 20
const PULLS = 5
const CONTAINERS = 10
const CALL_ROUNDS = 3

async function main(sides: readonly Side[], image: string, registry: Registry): Promise<void> {
  print([
    await benchRun(sides, image),
    await benchPull(sides, (round) => registry.push('large', `${round}`, largeImage(round))),
    ...(await benchMemory(sides, image)),
    await benchCalls(sides, 1),
    await benchCalls(sides, 16),
  ])
}

async function benchRun(sides: readonly Side[], image: string): Promise<Row> {
  const once = (side: Side, round: number) => timed(() => ctr(side, 'run', '--rm', image, `run${round}`, 'true'))
  for (const side of sides) await once(side, -1) // the first one warms caches
  return ['run --rm IMAGE true', 'ms', ...(await inTurns(sides, RUNS, once))]
}

/** Every round has layers of its own: nobody finds anything already there. */
async function benchPull(sides: readonly Side[], push: (round: number) => Promise<string>): Promise<Row> {
  const images: string[] = []
  for (let round = 0; round < PULLS; round++) images.push(await push(round))
  return [
    'pull and unpack (24 MB, 3000 files)',
    'ms',
    ...(await inTurns(sides, PULLS, (side, round) =>
      timed(() => ctr(side, 'images', 'pull', '--plain-http', images[round] ?? '')),
    )),
  ]
}

async function benchMemory(sides: readonly Side[], image: string): Promise<Row[]> {
  const perContainer: number[] = []
  const daemons: number[] = []
  for (const side of sides) {
    const ids = Array.from({ length: CONTAINERS }, (_, index) => `idle${index}`)
    for (const id of ids) await ctr(side, 'run', '-d', image, id, 'sleep', '1000')
    const inits = (await ctr(side, 'tasks', 'ls'))
      .split('\n')
      .slice(1)
      .map((line) => Number(line.split(/\s+/)[1]))
    const scope = {
      dir: side.dir,
      namespaces: [side.namespace],
      daemons: () => [...inits, ...side.node.pids()],
    }
    perContainer.push(pssOf(pidsOf(scope)) / CONTAINERS)
    daemons.push(pssOf(side.node.pids()))
    for (const id of ids) {
      await ctr(side, 'tasks', 'rm', '-f', id)
      await ctr(side, 'containers', 'rm', id)
    }
  }
  const [containerd = 0, gantry = 0] = perContainer
  return [
    ['memory an idle container, PSS', 'MiB', containerd, gantry],
    ['memory of the daemon(s), PSS', 'MiB', daemons[0] ?? 0, daemons[1] ?? 0],
  ]
}

async function benchCalls(sides: readonly Side[], callers: number): Promise<Row> {
  const rates = await inTurns(sides, CALL_ROUNDS, (side) => callsPerSecond(side.node.address, callers))
  return [`Version calls, ${callers} at a time`, 'calls/s', ...rates]
}

await withSides(main)
