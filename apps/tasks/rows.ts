import { jsonCodec } from '@gantry/store/codec'
import type { Store } from '@gantry/store/store'
import type { Key, Table } from '@gantry/store/table'
import type { Restore, RuntimeChoice } from './runtime/runtime.ts'
import type { Stdio } from './runtime/stdio.ts'
import type { Life } from './task.ts'

// tasks      <namespace> <id>              one a task
// processes  <namespace> <id> init         its first process
//            <namespace> <id> exec <exec>  one an exec that has not been deleted
// sandbox-tasks, sandbox-processes         the same for sandboxes
//
// A row names processes by pid and start time, which mean something only until the next boot: `boot` says which it was.

export interface TaskRow {
  readonly boot: string
  readonly runtime: RuntimeChoice
  /** Where the container's processes are accounted, or null when it has no group of its own. */
  readonly cgroup: string | null
  /** Init is not the first process of a pid namespace of its own: others may outlive it. */
  readonly sharesPids: boolean
  readonly oomSeen: boolean
  /** The sandbox it belongs to; absent in records of before there were any. */
  readonly sandbox?: string | null
  /** The checkpoint that its init is to go on from, until it does. */
  readonly restore?: Restore | null
}

export interface ProcessRow {
  readonly stdio: Stdio
  readonly life: Life
  /** An exec's process as the client gave it, JSON of the OCI runtime specification; null for init. */
  readonly spec: string | null
}

export interface Rows {
  readonly tasks: Table<TaskRow>
  readonly processes: Table<ProcessRow>
}

/** Tables of tasks, or of what is one only to us: sandboxes have tables of their own. */
export function openRows(store: Store, kind: '' | 'sandbox-' = ''): Rows {
  return { tasks: store.table(`${kind}tasks`, jsonCodec()), processes: store.table(`${kind}processes`, jsonCodec()) }
}

/** @param execId empty for init */
export function processKey(namespace: string, id: string, execId: string): Key {
  return execId === '' ? [namespace, id, 'init'] : [namespace, id, 'exec', execId]
}
