import { readFileSync } from 'node:fs'
import { Fault } from '@gantry/model/fault'

const CAP_SYS_RESOURCE = 24n
const UNLIMITED = 2n ** 64n - 1n

/** What this process may give to its children, which bounds what a container can get. */
export interface HostLimits {
  /** With CAP_SYS_RESOURCE nothing is bounded. */
  readonly unbounded: boolean
  /** Our own oom_score_adj: without the capability no child gets a lower one. */
  readonly oomScoreAdj: number
  /** Our own hard limits by the name the specification uses, such as `RLIMIT_NOFILE`. */
  readonly hard: ReadonlyMap<string, bigint>
}

/** A specification that was made to fit the host. */
export interface Fitted {
  /** JSON; the very text that came in when nothing had to change. */
  readonly text: string
  /** What was changed, to tell the operator. */
  readonly changes: readonly string[]
}

export type Json = null | boolean | number | bigint | string | Json[] | { [key: string]: Json }
export type JsonObject = { [key: string]: Json }

/**
 * Checks that `bytes` are a container specification and lowers what this host cannot give. Without CAP_SYS_RESOURCE a
 * raised limit or a negative oom_score_adj makes the OCI runtime fail with a text nobody understands.
 * @throws {Fault} `invalid-argument` for what is not a JSON object
 */
export function fitSpec(bytes: Uint8Array, limits: HostLimits): Fitted {
  const text = new TextDecoder().decode(bytes)
  const spec = parseObject(text, 'specification')
  return fit(text, spec, spec.process, limits)
}

/** The same for the process of an exec. */
export function fitProcess(text: string, limits: HostLimits): Fitted {
  const process = parseObject(text, 'process')
  return fit(text, process, process, limits)
}

/** The specification as an object, to look into. */
export function readSpec(text: string): JsonObject {
  return parseObject(text, 'specification')
}

/** The specification with a change made to it; numbers too large for JavaScript stay exact. */
export function editSpec(text: string, edit: (spec: JsonObject) => void): string {
  const spec = parseObject(text, 'specification')
  edit(spec)
  return stringify(spec)
}

/** Reads what this process has. */
export function readHostLimits(): HostLimits {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return {
    unbounded: ((BigInt(`0x${capabilities}`) >> CAP_SYS_RESOURCE) & 1n) === 1n,
    oomScoreAdj: Number(readFileSync('/proc/self/oom_score_adj', 'utf8')),
    hard: parseLimits(readFileSync('/proc/self/limits', 'utf8')),
  }
}

function fit(text: string, whole: JsonObject, process: Json | undefined, limits: HostLimits): Fitted {
  if (limits.unbounded || !isObject(process)) return { text, changes: [] }
  const changes = [...fitOomScore(process, limits), ...fitRlimits(process, limits)]
  return changes.length === 0 ? { text, changes } : { text: stringify(whole), changes }
}

function fitOomScore(process: JsonObject, limits: HostLimits): string[] {
  const wanted = process.oomScoreAdj
  if (typeof wanted !== 'number' || wanted >= limits.oomScoreAdj) return []
  process.oomScoreAdj = limits.oomScoreAdj
  return [`oomScoreAdj ${wanted} became ${limits.oomScoreAdj}`]
}

function fitRlimits(process: JsonObject, limits: HostLimits): string[] {
  const rlimits = process.rlimits
  if (!Array.isArray(rlimits)) return []
  return rlimits.flatMap((rlimit) => {
    if (!isObject(rlimit)) return []
    const { type, hard, soft } = rlimit
    const most = typeof type === 'string' ? limits.hard.get(type) : undefined
    if (most === undefined || !isInteger(hard) || BigInt(hard) <= most) return []
    rlimit.hard = most
    if (isInteger(soft) && BigInt(soft) > most) rlimit.soft = most
    return [`${type} ${hard} became ${most}`]
  })
}

/** Our names for the rows of /proc/<pid>/limits. */
const LIMIT_NAMES = new Map(
  Object.entries({
    'Max cpu time': 'CPU',
    'Max file size': 'FSIZE',
    'Max data size': 'DATA',
    'Max stack size': 'STACK',
    'Max core file size': 'CORE',
    'Max resident set': 'RSS',
    'Max processes': 'NPROC',
    'Max open files': 'NOFILE',
    'Max locked memory': 'MEMLOCK',
    'Max address space': 'AS',
    'Max file locks': 'LOCKS',
    'Max pending signals': 'SIGPENDING',
    'Max msgqueue size': 'MSGQUEUE',
    'Max nice priority': 'NICE',
    'Max realtime priority': 'RTPRIO',
    'Max realtime timeout': 'RTTIME',
  }),
)

function parseLimits(table: string): Map<string, bigint> {
  const hard = new Map<string, bigint>()
  for (const line of table.split('\n')) {
    const name = LIMIT_NAMES.get(line.slice(0, 26).trim())
    const value = line.slice(26).trim().split(/\s+/)[1]
    if (name !== undefined && value !== undefined)
      hard.set(`RLIMIT_${name}`, value === 'unlimited' ? UNLIMITED : BigInt(value))
  }
  return hard
}

function parseObject(text: string, what: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text, keepBig)
  } catch (error) {
    throw new Fault('invalid-argument', `Cannot read the ${what}: it is not JSON`, { cause: error })
  }
  if (!isObject(value)) throw new Fault('invalid-argument', `Cannot read the ${what}: it is not a JSON object`)
  return value
}

/** Limits such as 2^64 - 1 do not survive as a number: integers too large for one become a bigint. */
function keepBig(_key: string, value: unknown, ...[context]: [{ readonly source?: string }?]): unknown {
  const source = context?.source
  const isBig = typeof value === 'number' && !Number.isSafeInteger(value) && source !== undefined
  return isBig && /^-?\d+$/.test(source) ? BigInt(source) : value
}

const json: typeof JSON & { rawJSON?(text: string): unknown } = JSON

function stringify(value: Json): string {
  return JSON.stringify(value, (_key, each) =>
    typeof each === 'bigint' ? (json.rawJSON?.(each.toString()) ?? Number(each)) : each,
  )
}

function isInteger(value: Json | undefined): value is number | bigint {
  return typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value))
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
