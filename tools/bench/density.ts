/**
 * What idle containers cost: memory of all that stays for one, beside containerd; what they add to `tasks`; and whether the last of many
 * starts as fast as the first.
 */
import { readdirSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { processOf } from '@gantry/e2e/harness/kill'
import { pidsOf } from '@gantry/e2e/harness/leaks'
import { pssOf } from '@gantry/e2e/harness/memory'
import { ctr, median, print, type Side, timed, withSides } from './sides.ts'

const { values } = parseArgs({
  options: { idle: { type: 'string', default: '100' }, many: { type: 'string', default: '300' } },
})
const IDLE = Number(values.idle)
const MANY = Number(values.many)
const AROUND = 10 // starts that count for the 10th and for the last one
const AT_ONCE = 4 // removals

await withSides(async ([containerd, gantry], image) => {
  const { perContainer } = await startIdle(containerd, image, IDLE)
  await removeIdle(containerd, IDLE)

  const before = sizeOfTasks(gantry)
  const ours = await startIdle(gantry, image, MANY, IDLE)
  const after = sizeOfTasks(gantry)
  print([[`memory an idle container (of ${IDLE}), PSS`, 'MiB', perContainer, ours.perContainer]])
  console.log(`\ntasks with 0 containers: ${describe(before)}; with ${MANY}: ${describe(after)}`)
  const [early, late] = [median(ours.ms.slice(0, 2 * AROUND)), median(ours.ms.slice(-2 * AROUND))]
  console.log(
    `start of a container, median around the 10th: ${early.toFixed(0)} ms, the last of ${MANY}: ${late.toFixed(0)} ms (${(late / early).toFixed(2)})`,
  )
  const removal = await timed(() => removeIdle(gantry, MANY))
  console.log(
    `removal: ${(removal / MANY).toFixed(0)} ms a container; tasks after it: ${describe(sizeOfTasks(gantry))}`,
  )
})

interface Started {
  readonly ms: readonly number[]
  /** MiB, when `idle` of them ran. */
  readonly perContainer: number
}

async function startIdle(side: Side, image: string, count: number, idle = count): Promise<Started> {
  const ms: number[] = []
  let perContainer = Number.NaN
  for (let index = 0; index < count; index++) {
    ms.push(await timed(() => ctr(side, 'run', '-d', image, `idle${index}`, 'sleep', '100000')))
    if (index + 1 === idle) perContainer = pssOf(await staying(side)) / idle
  }
  return { ms, perContainer }
}

/** Monitors, shims and whatever else stays for containers: neither the containers themselves nor the daemon. */
async function staying(side: Side): Promise<number[]> {
  const inits = (await ctr(side, 'tasks', 'ls'))
    .split('\n')
    .slice(1)
    .map((line) => Number(line.split(/\s+/)[1]))
  return pidsOf({ dir: side.dir, namespaces: [side.namespace], daemons: () => [...inits, ...side.node.pids()] })
}

async function removeIdle(side: Side, count: number): Promise<void> {
  const ids = Array.from({ length: count }, (_, index) => `idle${index}`)
  const worker = async () => {
    for (let id = ids.pop(); id !== undefined; id = ids.pop()) {
      await ctr(side, 'tasks', 'rm', '-f', id)
      await ctr(side, 'containers', 'rm', id)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

interface Size {
  readonly descriptors: number
  readonly mib: number
}

function sizeOfTasks(side: Side): Size {
  const pid = processOf(side.node, 'tasks')
  if (pid === undefined) throw new Error('tasks does not run')
  return { descriptors: readdirSync(`/proc/${pid}/fd`).length, mib: pssOf([pid]) }
}

function describe({ descriptors, mib }: Size): string {
  return `${descriptors} descriptors, ${mib.toFixed(1)} MiB PSS`
}
