/** The only file that knows lmdb: bytes in, bytes out, one durable transaction at a time. */
import { accessSync, constants, fstatSync, readdirSync, type Stats, statfsSync, statSync } from 'node:fs'
import { constants as osConstants } from 'node:os'
import { join } from 'node:path'
import { setCloseOnExec } from '@gantry/linux/process'
import { Fault } from '@gantry/model/fault'
import { open, type RootDatabase } from 'lmdb'
import { keepRoom } from './room.ts'
import type { Changes, Entry, Range } from './view.ts'

// Address space, not memory or disk: the file grows with what is stored. Fixed, because growing a map under readers is
// where LMDB bindings break.
const MAP_BYTES = 16 * 2 ** 30

const { EACCES, EDQUOT, EIO, ENOSPC, EROFS } = osConstants.errno
const FULL_BYTES = 2 ** 20 // a disk with less left is full
const MAP_FULL = -30792 // LMDB's own code: the address space is used up

export interface Database {
  /** A committed value, as a copy of its own. */
  get(key: string): Uint8Array | undefined
  page(range: Range, limit: number): Entry[]
  /** Stores all changes or none; resolves when they are on disk and visible to `get`. */
  commit(changes: Changes): Promise<void>
  close(): Promise<void>
}

/** @throws {Fault} `failed-precondition` when the folder cannot be written or its file is damaged */
export function openDatabase(path: string): Database {
  const lmdb = openEnvironment(path)
  keepFromChildren(path)
  const grown = keepRoom(join(path, 'data.mdb'))
  return {
    get(key) {
      const value = lmdb.getBinary(key)
      return value && plain(value)
    },
    page({ from, to, reverse }, limit) {
      const options = reverse
        ? { start: to, end: from, reverse, exclusiveStart: true, inclusiveEnd: true, limit }
        : { start: from, end: to, limit }
      return Array.from(lmdb.getRange(options), ({ key, value }) => ({ key, value: plain(value) }))
    },
    async commit(changes) {
      try {
        await lmdb.batch(() => {
          for (const [key, value] of changes) void (value ? lmdb.put(key, value) : lmdb.remove(key))
        })
        lmdb.resetReadTxn()
        grown()
      } catch (error) {
        throw await toFault(path, error)
      }
    },
    close: () => lmdb.close(),
  }
}

/** Keys are text of one byte a character here: each would else become two buffers, and most of a listing is keys. */
const LATIN1_KEYS = {
  writeKey(key: string, target: Buffer, start: number): number {
    if (start + key.length > target.length) throw new RangeError('The key does not fit') // lmdb then takes another buffer
    return start + target.write(key, start, 'latin1')
  },
  readKey: (source: Buffer, start: number, end: number): string => source.toString('latin1', start, end),
}

function openEnvironment(path: string): RootDatabase<Uint8Array, string> {
  try {
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK)
    return open<Uint8Array, string>(path, {
      keyEncoder: LATIN1_KEYS,
      encoding: 'binary',
      noSubdir: false, // a folder, also when its name has a dot
      mapSize: MAP_BYTES,
      eventTurnBatching: false, // the one batch of a commit is the transaction; else failures surface twice
      overlappingSync: false, // a commit is on disk when its promise resolves
    })
  } catch (error) {
    throw new Fault('failed-precondition', `Cannot open the records in "${path}": ${messageOf(error)}`, {
      cause: error,
    })
  }
}

/** LMDB opens its data file without close-on-exec: a container would inherit our records, writable. */
function keepFromChildren(path: string): void {
  const file = statSync(join(path, 'data.mdb'))
  for (const fd of readdirSync('/proc/self/fd').map(Number)) {
    const open = statOf(fd)
    if (open?.dev === file.dev && open.ino === file.ino) setCloseOnExec(fd)
  }
}

function statOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd)
  } catch {
    return undefined // the listing of the folder itself is closed by now
  }
}

async function toFault(path: string, error: unknown): Promise<Fault> {
  const cause = await causeOf(error)
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  if (code === ENOSPC || code === EDQUOT || code === MAP_FULL || (code === EIO && isFull(path)))
    return new Fault('resource-exhausted', `Cannot write records in "${path}": the disk is full`, { cause })
  if (code === EROFS || code === EACCES)
    return new Fault('failed-precondition', `Cannot write records in "${path}": the folder is read-only`, { cause })
  return new Fault('internal', `Cannot write records in "${path}": ${messageOf(cause)}`, { cause })
}

/** LMDB takes a write that a full disk cut short for one that failed. */
function isFull(path: string): boolean {
  const { bavail, bsize } = statfsSync(path)
  return bavail * bsize < FULL_BYTES
}

/** lmdb rejects with a general error whose `commitError` promise rejects with the reason. */
async function causeOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error && 'commitError' in error)) return error
  return await Promise.resolve(error.commitError).then(
    () => error,
    (reason: unknown) => reason,
  )
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Without the methods of a Buffer, some of which share memory where those of a Uint8Array copy. */
function plain(value: Uint8Array): Uint8Array {
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
}
