/** Gantry beside Debian's containerd: the same machine, the same run, the same `ctr`. What counts is the ratio. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { run } from '@gantry/e2e/harness/command'
import { startContainerd } from '@gantry/e2e/harness/containerd'
import { startGantry } from '@gantry/e2e/harness/gantry'
import { makeImage } from '@gantry/e2e/harness/image'
import { removeNamespaceCgroups } from '@gantry/e2e/harness/leaks'
import { type Registry, startRegistry } from '@gantry/e2e/harness/registry'
import type { Running } from '@gantry/e2e/harness/running'

const TIMEOUT_MS = 120_000

export interface Side {
  readonly name: 'containerd' | 'gantry'
  readonly node: Running
  /** everything of its own lies in here */
  readonly dir: string
  /** one of its own: containerd and ctr share cgroup paths and runc's folder between daemons */
  readonly namespace: string
}
export type Row = readonly [what: string, unit: string, containerd: number, gantry: number]

/** Starts both with the same small image pulled, containerd first, and leaves nothing. */
export async function withSides(
  measure: (sides: readonly [Side, Side], image: string, registry: Registry) => Promise<void>,
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'gb-'))
  const namespaces = [`gantrybench-c${process.pid}`, `gantrybench-g${process.pid}`] as const
  try {
    for (const folder of ['c/r', 'c/s', 'g/r', 'g/s']) mkdirSync(join(dir, folder), { recursive: true })
    await using registry = await startRegistry()
    await using containerd = await startContainerd(join(dir, 'c', 'r'), join(dir, 'c', 's'))
    await using gantry = await startGantry(join(dir, 'g', 'r'), join(dir, 'g', 's'))
    const sides = [
      { name: 'containerd', node: containerd, dir: join(dir, 'c'), namespace: namespaces[0] },
      { name: 'gantry', node: gantry, dir: join(dir, 'g'), namespace: namespaces[1] },
    ] as const
    const image = await registry.push('busybox', 'bench', makeImage())
    for (const side of sides) await ctr(side, 'images', 'pull', '--plain-http', image)
    await measure(sides, image, registry)
  } finally {
    removeNamespaceCgroups(namespaces)
    rmSync(dir, { recursive: true, force: true })
  }
}

/** @returns what it printed. @throws when it fails */
export async function ctr({ name, node, namespace }: Side, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(['ctr', '-a', node.address, '-n', namespace, ...args], {
    timeoutMs: TIMEOUT_MS,
  })
  if (code !== 0)
    throw new Error(`${name}: ctr ${args.join(' ')} ended with ${code}: ${stderr}\n${node.daemon.log().slice(-3000)}`)
  return stdout
}

/** A B A B …, so that whatever else the machine does hits both; the median of each. */
export async function inTurns(
  sides: readonly Side[],
  rounds: number,
  measure: (side: Side, round: number) => Promise<number>,
): Promise<[number, number]> {
  const figures: [number[], number[]] = [[], []]
  for (let round = 0; round < rounds; round++)
    for (const [index, side] of sides.entries()) figures[index]?.push(await measure(side, round))
  return [median(figures[0]), median(figures[1])]
}

/** Milliseconds. */
export async function timed(what: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await what()
  return performance.now() - start
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

export function print(rows: readonly Row[]): void {
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
