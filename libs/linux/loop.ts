import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { declare, isSystemError } from './system.ts'

const LOOP_CTL_GET_FREE = 0x4c82
const LOOP_CONFIGURE = 0x4c0a
const LOOP_CLR_FD = 0x4c01
const LOOP_SET_STATUS64 = 0x4c04
const CONFIG_BYTES = 304 // struct loop_config: descriptor, block size, struct loop_info64, eight reserved words
const INFO_AT = 8
const INFO_BYTES = 232
const FLAGS_AT = 52 // of loop_info64
const LO_FLAGS_READ_ONLY = 1
const LO_FLAGS_AUTOCLEAR = 4
const RACES = 64 // another process may take the free device first

const ioctlNumber = declare('int ioctl(int fd, unsigned long request, long argument)')
const ioctlBuffer = declare('int ioctl(int fd, unsigned long request, void *argument)')

/** A file as a block device. Disposing lets go of it: it is freed when nothing has it mounted or open, unless it was kept. */
export interface LoopDevice extends Disposable {
  /** `/dev/loop7` */
  readonly path: string
  /** From now on it stays until `freeLoop`. */
  keep(): void
}

/**
 * Makes a block device of a file.
 * @throws {SystemError} `ENOENT`, `EACCES`; `ENXIO` or `ENOENT` for /dev/loop-control where the kernel has no such devices
 */
export function openLoop(file: string, { readOnly }: { readonly readOnly: boolean }): LoopDevice {
  const mode = readOnly ? constants.O_RDONLY : constants.O_RDWR
  using files = new DisposableStack()
  const backing = files.adopt(openSync(file, mode | constants.O_NONBLOCK), closeSync) // a FIFO is not waited for
  const control = files.adopt(openSync('/dev/loop-control', constants.O_RDWR), closeSync)
  const config = new Uint8Array(CONFIG_BYTES)
  const view = new DataView(config.buffer)
  view.setUint32(0, backing, true)
  view.setUint32(INFO_AT + FLAGS_AT, LO_FLAGS_AUTOCLEAR | (readOnly ? LO_FLAGS_READ_ONLY : 0), true)
  for (let attempt = 1; ; attempt++) {
    const path = `/dev/loop${ioctlNumber('/dev/loop-control', control, LOOP_CTL_GET_FREE, 0)}`
    const fd = openSync(path, mode)
    try {
      ioctlBuffer(path, fd, LOOP_CONFIGURE, config)
      return deviceOf(path, fd, config.slice(INFO_AT, INFO_AT + INFO_BYTES))
    } catch (error) {
      closeSync(fd)
      if (attempt === RACES || !isSystemError(error, 'EBUSY')) throw error
    }
  }
}

function deviceOf(path: string, fd: number, info: Uint8Array): LoopDevice {
  return {
    path,
    keep() {
      const view = new DataView(info.buffer)
      view.setUint32(FLAGS_AT, view.getUint32(FLAGS_AT, true) & ~LO_FLAGS_AUTOCLEAR, true)
      ioctlBuffer(path, fd, LOOP_SET_STATUS64, info)
    },
    [Symbol.dispose]: () => closeSync(fd),
  }
}

/**
 * Frees a device that was kept, if it still is of that file, which may be deleted; while it is mounted it goes with its last
 * user.
 * @param file as the kernel calls it: what `loopFile` answered
 */
export function freeLoop(path: string, file: string): void {
  const now = loopFile(path)
  if (now !== file && now !== `${file} (deleted)`) return
  const fd = openSync(path, 'r')
  try {
    ioctlNumber(path, fd, LOOP_CLR_FD, 0)
  } catch (error) {
    if (!isSystemError(error, 'ENXIO')) throw error // free already
  } finally {
    closeSync(fd)
  }
}

/** The file behind a loop device, or undefined when there is none. */
export function loopFile(path: string): string | undefined {
  try {
    return readFileSync(`/sys/block/${path.slice('/dev/'.length)}/loop/backing_file`, 'utf8').trimEnd()
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
