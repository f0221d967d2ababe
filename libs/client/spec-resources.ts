import { Fault } from '@gantry/model/fault'
import type { Resources, Rlimit } from './spec-options.ts'

const PERIOD_US = 100_000 // of the scheduler, as every engine sets it
const MIN_CPUS = 0.01 // the kernel takes no quota below 1 ms
const SHARES = { min: 2, max: 262_144 } // what the kernel takes
const MAX_PIDS = 4_194_304 // pids there can be on Linux
const MAX_MEMORY = BigInt(Number.MAX_SAFE_INTEGER) // bytes; JSON numbers are exact up to here
const UNLIMITED = 2n ** 64n - 1n // RLIM_INFINITY
const RLIMITS = 'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack as'
const NO_FILE_LIMIT = 1024n // open files of a process, as containerd

/**
 * `linux.resources` without devices.
 *
 * @throws {Fault} `invalid-argument` for a limit that cannot be meant
 */
export function resourcesOf(options: Resources, cpuCount: number): Record<string, object> {
  const cpu = {
    ...(options.cpuShares !== undefined && { shares: sharesOf(options.cpuShares) }),
    ...(options.cpus !== undefined && { quota: quotaOf(options.cpus, cpuCount), period: PERIOD_US }),
    ...(options.cpuset !== undefined && { cpus: cpusetOf(options.cpuset, cpuCount) }),
  }
  const memory = memoryOf(options)
  return {
    ...(Object.keys(cpu).length > 0 && { cpu }),
    ...(memory && { memory }),
    ...(options.pidsLimit !== undefined && { pids: { limit: pidsOf(options.pidsLimit) } }),
  }
}

/** `process.rlimits`: those asked for, and the number of open files when that is not among them. */
export function rlimitsOf(asked: readonly Rlimit[] = []): { type: string; soft: bigint; hard: bigint }[] {
  const byName = new Map([
    ['nofile', { name: 'nofile', soft: NO_FILE_LIMIT, hard: NO_FILE_LIMIT }],
    ...asked.map((limit) => [limit.name.toLowerCase(), limit] as const),
  ])
  return Array.from(byName, ([name, limit]) => {
    if (!RLIMITS.split(' ').includes(name))
      throw new Fault('invalid-argument', `Cannot limit ${JSON.stringify(limit.name)}: choose one of ${RLIMITS}`)
    const [soft, hard] = [limit.soft, limit.hard].map((value) => (value === -1n ? UNLIMITED : value))
    if (soft === undefined || hard === undefined || soft < 0n || hard > UNLIMITED || soft > hard)
      throw new Fault(
        'invalid-argument',
        `Cannot limit ${name} to ${limit.soft}:${limit.hard}: give numbers or -1, the first not above the second`,
      )
    return { type: `RLIMIT_${name.toUpperCase()}`, soft, hard }
  })
}

function quotaOf(cpus: number, cpuCount: number): number {
  if (!(cpus >= MIN_CPUS && cpus <= cpuCount))
    throw new Fault('invalid-argument', `Cannot give ${cpus} CPUs: this host has between ${MIN_CPUS} and ${cpuCount}`)
  return Math.round(cpus * PERIOD_US)
}

function sharesOf(shares: number): number {
  if (!Number.isInteger(shares) || shares < SHARES.min || shares > SHARES.max)
    throw new Fault('invalid-argument', `Cannot give ${shares} CPU shares: not between ${SHARES.min} and ${SHARES.max}`)
  return shares
}

function cpusetOf(text: string, cpuCount: number): string {
  const ranges = text.split(',').map((range) => /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(range))
  for (const match of ranges) {
    const [first, last] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])]
    if (!(first <= last && last < cpuCount))
      throw new Fault(
        'invalid-argument',
        `Cannot use the CPUs ${JSON.stringify(text.slice(0, 64))}: write them like 0-2,5; this host has 0-${cpuCount - 1}`,
      )
  }
  return text
}

function memoryOf({ memory, memorySwap }: Resources): { limit: number; swap?: number } | undefined {
  if (memory === undefined) {
    if (memorySwap === undefined) return undefined
    throw new Fault('invalid-argument', 'Cannot limit memory and swap together: limit memory as well')
  }
  if (memory <= 0n || memory > MAX_MEMORY)
    throw new Fault('invalid-argument', `Cannot limit memory to ${memory} bytes: not between 1 and ${MAX_MEMORY}`)
  if (memorySwap === undefined) return { limit: Number(memory) }
  if (memorySwap !== -1n && (memorySwap < memory || memorySwap > MAX_MEMORY))
    throw new Fault(
      'invalid-argument',
      `Cannot limit memory and swap to ${memorySwap} bytes: it is both together, so not below the ${memory} of memory, or -1`,
    )
  return { limit: Number(memory), swap: Number(memorySwap) }
}

function pidsOf(limit: number): number {
  if (limit === -1 || (Number.isInteger(limit) && limit >= 1 && limit <= MAX_PIDS)) return limit
  throw new Fault('invalid-argument', `Cannot limit processes to ${limit}: give a number up to ${MAX_PIDS}, or -1`)
}
