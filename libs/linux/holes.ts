import { declare, isSystemError } from './system.ts'

const SEEK_DATA = 3
const SEEK_HOLE = 4

const lseek = declare('long lseek(int fd, long offset, int whence)')

/**
 * The parts of a file that are not holes, in order, as byte offsets; `end` is exclusive. The whole file where the file
 * system knows no holes. The descriptor's own offset moves: read at positions.
 * @throws {SystemError} `EBADF`, `ESPIPE`, ...
 */
export function* dataRanges(fd: number): Generator<{ readonly start: number; readonly end: number }> {
  for (let at = 0; ; ) {
    const start = dataAfter(fd, at)
    if (start === undefined) return
    const end = lseek(`fd ${fd}`, fd, start, SEEK_HOLE)
    yield { start, end }
    at = end
  }
}

function dataAfter(fd: number, offset: number): number | undefined {
  try {
    return lseek(`fd ${fd}`, fd, offset, SEEK_DATA)
  } catch (error) {
    if (isSystemError(error, 'ENXIO')) return undefined // only a hole, or nothing, is left
    throw error
  }
}
