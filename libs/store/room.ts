import { closeSync, openSync, statSync } from 'node:fs'
import { reserve } from '@gantry/linux/file'

// Enough for a transaction that removes thousands of records: LMDB writes each page that changes anew.
const ROOM_BYTES = 8 * 2 ** 20

/**
 * Keeps blocks of the disk behind the end of the records for them alone. To remove something writes, too: on a disk that is
 * full nothing could go any more, and it stayed full. Room that is written into is replaced while there is any; where the file
 * system cannot keep some, there is none.
 *
 * @param file the data file of LMDB, which grows page by page
 * @returns to be called when it may have grown; never fails
 */
export function keepRoom(file: string): () => void {
  let kept = 0 // up to this byte
  const look = (): void => {
    try {
      const { size } = statSync(file)
      if (kept - size >= ROOM_BYTES / 2) return
      extend(file, size)
      kept = size + ROOM_BYTES
    } catch {} // the disk is full: tried again with the next commit
  }
  look()
  return look
}

function extend(file: string, size: number): void {
  const fd = openSync(file, 'r+')
  try {
    reserve(fd, size, ROOM_BYTES)
  } finally {
    closeSync(fd)
  }
}
