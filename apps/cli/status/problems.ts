import type { ProcessStatus } from './node-status.ts'

const UNSETTLED_MS = 60_000 // since its last restart
const OFTEN = 3 // restarts: one is what a node is made to survive

/** What is wrong with a node, each in one line; nothing when it is healthy. */
export function problemsOf(processes: readonly ProcessStatus[], own: { version: string; nowMs: number }): string[] {
  const ours = processes.filter(({ name }) => name !== 'nats')
  return [
    ...processes.filter(({ health }) => health !== 'serving').map(awayProblem),
    ...versionProblem(ours, own.version),
    ...ours.filter(({ health, bus }) => health === 'serving' && bus === false).map(busProblem),
    ...ours.filter((process) => isUnsettled(process, own.nowMs)).map(restartProblem),
  ]
}

function awayProblem({ name, address, health, reason = '' }: ProcessStatus): string {
  const where = address === '' ? '' : ` at ${address}`
  return health === 'away' ? `${name} is away${where}: ${reason}` : `${name} says that it does not serve`
}

/** The command line belongs to them: it was installed with one of them. */
function versionProblem(processes: readonly ProcessStatus[], own: string): string[] {
  const all = [{ name: 'this command', version: own }, ...processes]
  const versions = Map.groupBy(
    all.filter(({ version }) => version !== undefined),
    ({ version }) => version,
  )
  if (versions.size < 2) return []
  const groups = Array.from(versions, ([version, of]) => `${version} (${of.map(({ name }) => name).join(', ')})`)
  return [`versions differ: ${groups.join(', ')}`]
}

function busProblem({ name, eventsBehind = 0 }: ProcessStatus): string {
  return `${name} does not reach the event bus: ${eventsBehind} events wait there`
}

function isUnsettled({ restarts = 0, startedMs = 0, health }: ProcessStatus, nowMs: number): boolean {
  return restarts >= OFTEN && health === 'serving' && nowMs - startedMs < UNSETTLED_MS
}

function restartProblem({ name, restarts = 0, lastEnd = 'unknown' }: ProcessStatus): string {
  return `${name} does not stay up: ${restarts} restarts, the last one less than a minute ago after ${lastEnd}`
}
