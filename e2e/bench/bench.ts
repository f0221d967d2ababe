/**
 * Gantry beside Debian's containerd: the same machine, the same run, the same `ctr`, measured in turns (A B A B) so that whatever else
 * the machine does hits both. What counts is the ratio.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { run } from '../harness/command.ts'
import { startContainerd } from '../harness/containerd.ts'
import { startGantry } from '../harness/gantry.ts'
import { makeImage } from '../harness/image.ts'
import { pidsOf, removeNamespaceCgroups } from '../harness/leaks.ts'
import { startRegistry } from '../harness/registry.ts'
import type { Running } from '../harness/running.ts'
import { callsPerSecond } from './calls.ts'
import { largeImage } from './large-image.ts'
import { pssOf } from './memory.ts'

const RUNS = 20
const PULLS = 5
const CONTAINERS = 10
const CALL_ROUNDS = 3
const NAMESPACE = 'gantrybench'

interface Side {
  readonly name: string
  readonly node: Running
  /** everything of its own lies in here */
  readonly dir: string
}
type Row = readonly [what: string, unit: string, containerd: number, gantry: number]

async function main(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'gb-'))
  try {
    for (const folder of ['c/r', 'c/s', 'g/r', 'g/s']) mkdirSync(join(dir, folder), { recursive: true })
    await using registry = await startRegistry()
    await using containerd = await startContainerd(join(dir, 'c', 'r'), join(dir, 'c', 's'))
    await using gantry = await startGantry(join(dir, 'g', 'r'), join(dir, 'g', 's'))
    const sides: Side[] = [
      { name: 'containerd', node: containerd, dir: join(dir, 'c') },
      { name: 'gantry', node: gantry, dir: join(dir, 'g') },
    ]
    const image = await registry.push('busybox', 'bench', makeImage())
    for (const side of sides) await ctr(side, 'images', 'pull', '--plain-http', image)

    const rows = [
      await benchRun(sides, image),
      await benchPull(sides, (round) => registry.push('large', `${round}`, largeImage(round))),
      ...(await benchMemory(sides, image)),
      await benchCalls(sides, 1),
      await benchCalls(sides, 16),
    ]
    print(rows)
  } finally {
    removeNamespaceCgroups(sides('containerd', 'gantry'))
    rmSync(dir, { recursive: true, force: true })
  }
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
      namespaces: [namespaceOf(side.name)],
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

/** A B A B …, and the median of each. */
async function inTurns(
  sides: readonly Side[],
  rounds: number,
  measure: (side: Side, round: number) => Promise<number>,
): Promise<[number, number]> {
  const figures: [number[], number[]] = [[], []]
  for (let round = 0; round < rounds; round++)
    for (const [index, side] of sides.entries()) figures[index]?.push(await measure(side, round))
  return [median(figures[0]), median(figures[1])]
}

async function ctr({ name, node }: Side, ...args: string[]): Promise<string> {
  // a namespace for each side: containerd and ctr share cgroup paths and runc's folder between daemons
  const { code, stdout, stderr } = await run(['ctr', '-a', node.address, '-n', namespaceOf(name), ...args], {
    timeoutMs: 120_000,
  })
  if (code !== 0)
    throw new Error(`${name}: ctr ${args.join(' ')} ended with ${code}: ${stderr}\n${node.daemon.log().slice(-3000)}`)
  return stdout
}

async function timed(what: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await what()
  return performance.now() - start
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

function namespaceOf(name: string): string {
  return `${NAMESPACE}-${name}`
}

function sides(...names: string[]): string[] {
  return names.map(namespaceOf)
}

function print(rows: readonly Row[]): void {
  console.log(
    `\n${'median'.padEnd(38)}${'containerd'.padStart(12)}${'gantry'.padStart(12)}  ${'unit'.padEnd(8)} gantry/containerd`,
  )
  for (const [what, unit, containerd, gantry] of rows)
    console.log(
      `${what.padEnd(38)}${figure(containerd)}${figure(gantry)}  ${unit.padEnd(8)} ${(gantry / containerd).toFixed(2)}`,
    )
}

function figure(value: number): string {
  return (value < 100 ? value.toFixed(2) : value.toFixed(0)).padStart(12)
}

await main()
