import { existsSync, type FSWatcher, readFileSync, statSync, watch as watchFolder } from 'node:fs'
import { join } from 'node:path'
import { isAlive, type ProcessId } from '@gantry/linux/process'
import { isSystemError } from '@gantry/linux/system'
import type { Exit } from '../task.ts'
import type { Watcher } from './runtime.ts'

const POLL_MS = 2000 // how soon a monitor that died without a word is noticed
/** What containerd reports for a process whose shim was lost. */
const LOST_STATUS = 137

export interface Exits extends Disposable {
  /**
   * Watches the process folder of a monitor for its `exit` and `oom` files, also when they are there already. A monitor
   * that is gone without an `exit` file has been killed: `onLost` ends what it left, then the exit is reported.
   */
  watch(what: { folder: string; monitor: ProcessId; onLost: () => void }, watcher: Watcher): Disposable
}

interface Watched {
  readonly check: () => void
  readonly isMonitored: () => boolean
  readonly lose: () => void
}

/** inotify tells of files at once; one timer for all looks for monitors that died. */
export function createExits(now: () => number): Exits {
  const all = new Set<Watched>()
  const timer = setInterval(() => {
    for (const each of all) if (!each.isMonitored()) each.lose()
  }, POLL_MS)
  timer.unref()
  return {
    watch({ folder, monitor, onLost }, watcher) {
      let oomTold = false
      const end = (exit: Exit): void => {
        if (!all.delete(watched)) return
        events?.close()
        watcher.onExit(exit)
      }
      const watched: Watched = {
        isMonitored: () => isAlive(monitor),
        check() {
          if (!all.has(watched)) return
          if (!oomTold && existsSync(join(folder, 'oom'))) {
            oomTold = true
            watcher.onOom()
          }
          const exit = readExit(join(folder, 'exit'))
          if (exit !== undefined) end(exit)
        },
        lose() {
          watched.check() // it may have written the file just before it ended
          if (!all.has(watched)) return
          onLost()
          end({ status: LOST_STATUS, atMs: now() })
        },
      }
      all.add(watched)
      const events = openEvents(folder, watched.check)
      setImmediate(watched.isMonitored() ? watched.check : watched.lose)
      return {
        [Symbol.dispose]() {
          all.delete(watched)
          events?.close()
        },
      }
    },
    [Symbol.dispose]() {
      clearInterval(timer)
    },
  }
}

/** The exit that a monitor wrote: an exit code as text; the time is that of the file. */
function readExit(path: string): Exit | undefined {
  try {
    if (!existsSync(path)) return undefined // it is asked at every change of the folder
    const status = Number.parseInt(readFileSync(path, 'utf8'), 10)
    return Number.isNaN(status)
      ? undefined
      : { status: status < 0 ? LOST_STATUS : status, atMs: statSync(path).mtimeMs }
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined
    throw error
  }
}

/** Without a watch (the host has a limit of them) the poll still finds the monitor gone, only later. */
function openEvents(folder: string, onChange: () => void): FSWatcher | undefined {
  try {
    return watchFolder(folder, { persistent: false }, onChange).on('error', () => undefined)
  } catch (error) {
    if (isSystemError(error, 'ENOSPC', 'EMFILE', 'ENOENT')) return undefined
    throw error
  }
}
