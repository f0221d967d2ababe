import { existsSync, readFileSync } from 'node:fs'
import { connect as dial } from 'node:net'
import { join } from 'node:path'
import { Status } from '@gantry/api/gantry/status/v1/status_pb'
import { Health, HealthCheckResponse_ServingStatus as Serving } from '@gantry/api/grpc/health/v1/health_pb'
import { isAlive } from '@gantry/linux/process'
import { isFault } from '@gantry/model/fault'
import { clientOf, connect } from '@gantry/rpc/client'
import { type NamedProcess, readProcesses } from '../up/lock.ts'

const ASK_MS = 5000 // a process that takes longer to say how it is does not serve anybody well
const PAGE = 4096

/** Each process with the name of its socket. */
const SOCKETS = { gateway: 'gantry', metadata: 'metadata', content: 'content', snapshots: 'snapshots', tasks: 'tasks' }

/** One process as it says that it is, or as others know it. What nobody knows is undefined. */
export interface ProcessStatus {
  readonly name: string
  readonly address: string
  readonly health: 'serving' | 'not serving' | 'away'
  /** Why it is away, for people. */
  readonly reason?: string
  readonly version?: string
  readonly pid?: number
  readonly startedMs?: number
  /** Bytes; pages that several processes share count in part for each. */
  readonly memory?: number
  /** Since `gantry up` began; undefined where something else keeps the processes up. */
  readonly restarts?: number
  readonly lastEnd?: string
  /** Events that are stored there and not in the log yet. */
  readonly eventsBehind?: number
  /** Does it reach the event bus? */
  readonly bus?: boolean
}

/** Asks every process of a node, and nats-server by what they say of it. @param state folder of their sockets */
export async function readNode(
  node: { gateway: string; state: string },
  signal: AbortSignal,
): Promise<ProcessStatus[]> {
  const known = new Map(readProcesses(node.state).map((process) => [process.name, process]))
  const asked = Object.entries(SOCKETS).map(async ([name, socket]) => {
    const address = name === 'gateway' ? node.gateway : join(node.state, `${socket}.sock`)
    return { ...(await ask(name, address, signal)), supervised: known.get(name) }
  })
  const answers = await Promise.all(asked)
  const processes = answers.map(({ status, supervised }) => ({ ...supervision(supervised), ...status }))
  const server = answers.find(({ bus }) => bus !== undefined)?.bus
  return [...processes, natsStatus(server, known.get('nats'))]
}

interface Answer {
  readonly status: ProcessStatus
  readonly bus: { readonly server: string; readonly version: string } | undefined
}

async function ask(name: string, address: string, signal: AbortSignal): Promise<Answer> {
  const away = (reason: string): Answer => ({ status: { name, address, health: 'away', reason }, bus: undefined })
  if (!existsSync(address)) return away('there is no such socket')
  if (!(await isListening(address))) return away('nobody listens there')
  await using channel = connect(address)
  const how = { signal, waitMs: ASK_MS, timeoutMs: ASK_MS }
  try {
    const [{ status: serving }, status] = await Promise.all([
      clientOf(Health, channel).check({}, how),
      clientOf(Status, channel).get({}, how),
    ])
    const { version, pid, startedMs, residentBytes, proportionalBytes, eventsBehind, bus } = status
    const health = serving === Serving.SERVING ? 'serving' : 'not serving'
    const memory = Number(proportionalBytes || residentBytes)
    const numbers = { startedMs: Number(startedMs), memory, eventsBehind: Number(eventsBehind) }
    return { status: { name, address, health, version, pid, ...numbers, bus: bus !== undefined }, bus }
  } catch (error) {
    if (!isFault(error) || signal.aborted) throw error
    const isSilent = error.code === 'deadline-exceeded' || error.code === 'unavailable' // somebody listens, as we know
    return away(isSilent ? `it has not answered for ${ASK_MS / 1000} s` : error.message)
  }
}

/** At once: a channel would wait for a process that may come. */
function isListening(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = dial(address, () => resolve(true))
    socket.on('error', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}

function supervision(process: NamedProcess | undefined): Partial<ProcessStatus> {
  if (process === undefined) return {}
  const { restarts, lastEnd } = process
  return { restarts, ...(lastEnd !== '' && { lastEnd }) }
}

/** The server does not tell of itself: what its clients and `gantry up` know has to do. */
function natsStatus(server: Answer['bus'], process: NamedProcess | undefined): ProcessStatus {
  const running = process && isAlive(process) ? process : undefined
  return {
    name: 'nats',
    address: server?.server ?? '',
    health: server ? 'serving' : 'away',
    ...supervision(process),
    ...(server ? { version: server.version } : { reason: running ? 'nobody reaches it' : 'it does not run here' }),
    ...(running && { pid: running.pid, memory: residentBytes(running.pid) }),
  }
}

function residentBytes(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1]) * PAGE
}
