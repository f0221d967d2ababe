/** Many processes and containers, one after the other, and what may grow with them. */
import { readdirSync } from 'node:fs'
import { createClient } from '@gantry/client/client'
import { processOf } from './kill.ts'
import { cgroups, fifos, mounts } from './leaks.ts'
import { pssOf } from './memory.ts'
import type { Running } from './running.ts'

const SERVICES = ['gateway', 'metadata', 'snapshots', 'tasks'] as const
const never = new AbortController().signal

export interface Steady {
  readonly node: Running
  readonly dir: string
  readonly namespace: string
  readonly image: string
}

/** Counts, and MiB of memory (PSS), by name. */
export type Sizes = Readonly<Record<string, number>>

/** Executes `true` in one container, `count` times, each with its FIFOs. */
export async function execMany({ node, namespace, image }: Steady, count: number): Promise<void> {
  await using client = createClient({ address: node.address, namespace })
  const container = await client.containers.create({ id: 'steady', image, spec: { args: ['sleep', '100000'] } }, never)
  const task = await client.tasks.create(container, { stdio: {} }, never)
  const ended = task.wait(never)
  await task.start(never)
  for (let index = 0; index < count; index++) {
    const exec = await task.exec({ execId: `x${index}`, args: ['true'], stdio: { stdout: process.stderr } }, never)
    const exit = exec.wait(never)
    await exec.start(never)
    const { status } = await exit
    if (status !== 0) throw new Error(`exec ${index} ended with ${status}`)
    await exec.delete(never)
  }
  await task.kill(9, {}, never)
  await ended
  await task.delete(never)
  await client.containers.delete('steady', {}, never)
}

/** Creates, runs and deletes a container, `count` times. */
export async function runMany({ node, namespace, image }: Steady, count: number): Promise<void> {
  await using client = createClient({ address: node.address, namespace })
  for (let index = 0; index < count; index++) {
    const id = `run${index}`
    const container = await client.containers.create({ id, image, spec: { args: ['true'] } }, never)
    const task = await client.tasks.create(container, { stdio: { stdout: process.stderr } }, never)
    const ended = task.wait(never)
    await task.start(never)
    const { status } = await ended
    if (status !== 0) throw new Error(`run ${index} ended with ${status}`)
    await task.delete(never)
    await client.containers.delete(id, {}, never)
  }
}

export function sizesOf({ node, dir, namespace }: Steady): Sizes {
  const scope = { dir, namespaces: [namespace] }
  const sizes: Record<string, number> = {
    mounts: mounts(scope).length,
    cgroups: cgroups(scope).length,
    FIFOs: fifos(scope).length,
  }
  for (const name of SERVICES) {
    const pid = processOf(node, name)
    if (pid === undefined) throw new Error(`${name} does not run`)
    sizes[`descriptors of ${name}`] = readdirSync(`/proc/${pid}/fd`).length
    sizes[`MiB of ${name}`] = pssOf([pid])
  }
  return sizes
}

/** The slope of the straight line through the samples of each size. @param step what lies between two samples */
export function slopes(samples: readonly Sizes[], step: number): [name: string, slope: number][] {
  const middle = (samples.length - 1) / 2
  const spread = samples.reduce((sum, _, index) => sum + (index - middle) ** 2, 0)
  return Object.keys(samples[0] ?? {}).map((name) => {
    const covered = samples.reduce((sum, sizes, index) => sum + (index - middle) * (sizes[name] ?? 0), 0)
    return [name, covered / spread / step]
  })
}
