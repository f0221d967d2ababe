import { setTimeout as sleep } from 'node:timers/promises'
import { isAlive, sendSignal } from '@gantry/linux/process'
import type { NamedProcess } from './lock.ts'

const STOP_MS = 5000 // from SIGTERM to SIGKILL
const POLL_MS = 20
const SIGTERM = 15
const SIGKILL = 9

/** Ends a process that is not a child of ours and waits until it is gone. */
export async function stopLeftover(process: NamedProcess): Promise<void> {
  sendSignal(process, SIGTERM)
  const killAt = Date.now() + STOP_MS
  let killed = false
  while (isAlive(process)) {
    if (!killed && Date.now() >= killAt) killed = sendSignal(process, SIGKILL)
    await sleep(POLL_MS)
  }
}
