import { constants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { mkfifo } from '@gantry/linux/file'
import { isSystemError } from '@gantry/linux/system'
import type { Process as Service } from '@gantry/service/process'
import type { RuntimeTask } from '../runtime/runtime.ts'

const QUOTA_BYTES = 64 * 1024 // of what a shim may say in a period
const PERIOD_MS = 1000

/**
 * Reads what a shim writes to the FIFO `log` of its bundle, and puts it in our log. One that floods it is read no faster
 * than the quota allows, so it slows nobody but itself.
 */
export function followLog({ id, namespace, bundle }: RuntimeTask, log: Service['log']): Disposable {
  const path = join(bundle.dir, 'log')
  try {
    mkfifo(path, 0o700)
  } catch (error) {
    if (!isSystemError(error, 'EEXIST')) throw error
  }
  // opened for writing too, so that it never ends
  const socket = new Socket({ fd: openSync(path, constants.O_RDWR | constants.O_NONBLOCK), writable: false })
  let size = 0
  const timer = setInterval(() => {
    size = 0
    socket.resume()
  }, PERIOD_MS)
  timer.unref()
  socket.on('error', () => undefined)
  socket.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size > QUOTA_BYTES) socket.pause()
    log.info({ namespace, task: id, shim: chunk.toString().trimEnd() }, 'A shim says')
  })
  socket.unref()
  return {
    [Symbol.dispose]() {
      clearInterval(timer)
      socket.destroy()
    },
  }
}
