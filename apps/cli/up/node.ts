import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { identify } from '@gantry/linux/process'
import { Fault } from '@gantry/model/fault'
import { isFresh } from '../fresh.cjs'
import { stopLeftover } from './leftovers.ts'
import { lockNode, type NodeLock } from './lock.ts'
import { createNats, type NatsServer } from './nats.ts'
import type { Printer } from './printer.ts'
import { isListening, whenListening, whenServing } from './ready.ts'
import { type Ended, type Hooks, type Part, type Supervised, supervise } from './supervise.ts'
import { watchLog } from './watch-log.ts'

/** In the order in which they stop: who takes calls goes before those it calls. */
const APPS = ['gateway', 'tasks', 'snapshots', 'content', 'metadata'] as const

/**
 * For Node: little room for what is young. What these hand on is garbage at once: with the usual 16 MiB they take 50 MiB more. Nor
 * less of it where small calls come fast: those that run do not fit into 1 MiB, and what is copied out of it stays for long. With 8 MiB
 * in place of 4 the gateway answers 64 callers a tenth faster.
 */
const FLAGS: Readonly<Partial<Record<string, readonly string[]>>> = {
  gateway: ['--max-semi-space-size=8', '--min-semi-space-size=8'],
  metadata: ['--max-semi-space-size=4', '--min-semi-space-size=4'],
  content: ['--max-semi-space-size=4'],
}

export interface NodeParts {
  readonly root: string
  readonly state: string
  /** Where the gateway serves. */
  readonly socket: string
  /** Starts a nats-server beside the services. */
  readonly ownNats: boolean
  /** The folder that holds `<app>/main.ts`. */
  readonly apps: string
  /** The program that runs them. */
  readonly runtime: string
  /** Arguments that each service gets. */
  readonly args: readonly string[]
  readonly printer: Printer
}

/**
 * Runs one node until `stop` is aborted: takes the state folder, ends what a killed predecessor left, keeps all processes
 * running, stops them in order. Containers and their monitors are nobody's children here: they stay.
 *
 * @param signals.now aborted when the user does not want to wait for an orderly stop
 * @throws {Fault} `failed-precondition` when another node runs on the state folder, or a service refuses to start at all
 */
export async function runNode(parts: NodeParts, signals: { stop: AbortSignal; now: AbortSignal }): Promise<void> {
  using lock = lockNode(parts.state)
  await clearLeftovers(lock, parts.printer)
  using nats = parts.ownNats ? createNats(parts) : undefined
  const end = new AbortController()
  const stop = AbortSignal.any([signals.stop, end.signal])
  let ready = false
  let refusal: Fault | undefined
  const ends = new Map<string, { readonly count: number; readonly how: string }>()

  const hooks: Hooks = {
    onLine: parts.printer.line,
    onStart(name, pid) {
      const id = identify(pid)
      const { count = 0, how = '' } = ends.get(name) ?? {}
      try {
        if (id) lock.record({ ...id, name, restarts: count, lastEnd: how })
      } catch (error) {
        parts.printer.say('warn', `Cannot remember that ${name} is process ${pid}: ${error}`) // it runs all the same
      }
    },
    onCrash(name, ended, delayMs) {
      ends.set(name, { count: (ends.get(name)?.count ?? 0) + 1, how: ended.how })
      refusal ??= ready ? undefined : refusalOf(name, ended)
      if (refusal) end.abort()
      else parts.printer.say('warn', `${name} ended (${ended.how}): starting it again in ${delayMs} ms`)
    },
  }
  const running = [...services(parts), ...(nats ? [nats.part] : [])].map((part) => supervise(part, hooks))
  const watching = nats ? watchNats(nats, parts, running, stop) : undefined
  const settled = whenReady(parts, nats, stop).then((all) => {
    ready = all
    if (all) parts.printer.announce(`gantry is ready on ${parts.socket}`)
  })
  await aborted(stop)
  await stopAll(running, signals.now)
  await settled
  await watching
  if (refusal) throw refusal
}

function services({ apps, runtime, args }: NodeParts): Part[] {
  return APPS.filter((name) => existsSync(join(apps, name, 'main.ts'))).map((name) => ({
    name,
    command: async () => [runtime, ...(FLAGS[name] ?? []), programOf(join(apps, name)), ...args],
  }))
}

/** The bundle of a service while it was made of the sources as they are: it starts in half the time. Else the sources. */
function programOf(app: string): string {
  const dist = join(app, 'dist')
  return isFresh(dist) ? join(dist, 'main.mjs') : join(app, 'main.ts')
}

async function clearLeftovers(lock: NodeLock, printer: Printer): Promise<void> {
  const order = [...APPS, 'nats']
  for (const process of lock.leftovers.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name))) {
    printer.say('warn', `${process.name} of an earlier gantry up still runs as process ${process.pid}: stopping it`)
    await stopLeftover(process)
  }
}

/** @returns false when told to stop before */
async function whenReady(parts: NodeParts, nats: NatsServer | undefined, stop: AbortSignal): Promise<boolean> {
  if (nats) await whenListening(() => nats.port, stop).then(() => nats.settle())
  const owners = APPS.filter((app) => app !== 'gateway').map((name) => join(parts.state, `${name}.sock`))
  await Promise.all([...owners, parts.socket].map((socket) => whenServing(socket, stop)))
  return !stop.aborted
}

/** Until `stop` is aborted. */
async function watchNats(
  nats: NatsServer,
  { state, printer }: NodeParts,
  running: readonly Supervised[],
  stop: AbortSignal,
): Promise<void> {
  const restart = (): void => {
    printer.say('warn', 'nats-server listens, but its log does not answer: starting it again')
    running.find(({ name }) => name === 'nats')?.kill()
  }
  await watchLog({ socket: join(state, 'metadata.sock'), isListening: () => isListening(nats.port), restart }, stop)
}

/** A service that ends with a line for the operator cannot be helped by starting it again. */
function refusalOf(name: string, { how, lastError }: Ended): Fault | undefined {
  const mark = `gantry-${name}: `
  if (how !== 'code 1' || !lastError?.startsWith(mark)) return undefined
  return new Fault('failed-precondition', `Cannot start ${name}: ${lastError.slice(mark.length)}`)
}

async function stopAll(running: readonly Supervised[], now: AbortSignal): Promise<void> {
  for (const part of running) await part.stop(now)
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
