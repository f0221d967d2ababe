import { closeSync, constants, openSync } from 'node:fs'
import { declare } from './system.ts'

const TIOCSWINSZ = 0x5414

/** Size of a terminal in characters. */
export interface WindowSize {
  readonly columns: number
  readonly rows: number
}

/** Sets the size of the terminal behind a descriptor (either end of it); its processes get SIGWINCH. */
export function setWindowSize(fd: number, size: WindowSize): void {
  const winsize = Buffer.alloc(8) // rows, columns, and two in pixels that nobody reads
  winsize.writeUInt16LE(size.rows & 0xffff, 0)
  winsize.writeUInt16LE(size.columns & 0xffff, 2)
  ioctl(`fd ${fd}`, fd, TIOCSWINSZ, winsize)
}

/** Opens a terminal by path, without making it the controlling one of this process. */
export function openTerminal(path: string): Disposable & { readonly fd: number } {
  const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK)
  return { fd, [Symbol.dispose]: () => closeSync(fd) }
}

const ioctl = declare('int ioctl(int fd, ulong request, const void *argument)')
