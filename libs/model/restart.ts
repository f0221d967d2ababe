import { Fault } from './fault.ts'
import type { Labels } from './labels.ts'

// The labels of containerd's restart monitor, which nerdctl sets too (behaviour facts, 3). The wanted status is what turns
// the monitor on: a container without it is left alone, whatever its policy.

/** `running` or `stopped`: what the container should be. */
export const RESTART_STATUS = 'containerd.io/restart.status'
export const RESTART_POLICY = 'containerd.io/restart.policy'
/** How often it was started again. */
export const RESTART_COUNT = 'containerd.io/restart.count'
/** `true` when somebody stopped it on purpose. */
export const EXPLICITLY_STOPPED = 'containerd.io/restart.explicitly-stopped'
/** Where its output goes when the monitor starts it, or `gantry` detached. */
export const RESTART_LOG = 'containerd.io/restart.loguri'

export const RESTART_POLICIES = ['no', 'always', 'on-failure', 'unless-stopped'] as const

export interface RestartPolicy {
  readonly name: (typeof RESTART_POLICIES)[number]
  /** Of `on-failure`: how many times at most; 0 is without end. */
  readonly max: number
}

/** Reads `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`. @throws {Fault} `invalid-argument` */
export function parseRestartPolicy(text: string): RestartPolicy {
  const [, first, max] = /^([a-z-]+)(?::(\d{1,9}))?$/.exec(text) ?? []
  const name = RESTART_POLICIES.find((policy) => policy === first)
  if (name !== undefined && (max === undefined || name === 'on-failure')) return { name, max: Number(max ?? 0) }
  throw new Fault(
    'invalid-argument',
    `Cannot restart ${JSON.stringify(text.slice(0, 64))}: give no, always, unless-stopped, on-failure or on-failure:times`,
  )
}

/**
 * Is a container that does not run to be started again? One whose labels cannot be read is not.
 *
 * @param exitStatus how it ended last, when that is known
 */
export function shouldRestart(labels: Labels, exitStatus: number | undefined): boolean {
  if (labels[RESTART_STATUS] !== 'running') return false
  const policy = policyOf(labels)
  switch (policy?.name) {
    case 'always':
      return true
    case 'unless-stopped':
      return labels[EXPLICITLY_STOPPED] !== 'true'
    case 'on-failure':
      return (exitStatus ?? 0) !== 0 && (policy.max === 0 || restartCount(labels) < policy.max)
    default:
      return false
  }
}

export function restartCount(labels: Labels): number {
  const count = Number(labels[RESTART_COUNT] ?? 0)
  return Number.isSafeInteger(count) && count > 0 ? count : 0
}

/** Without one it is `always`, as before there were policies. */
function policyOf(labels: Labels): RestartPolicy | undefined {
  try {
    return parseRestartPolicy(labels[RESTART_POLICY] || 'always')
  } catch {
    return undefined
  }
}
