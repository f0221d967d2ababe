import { declare } from './system.ts'

const SOL_SOCKET = 1
const SO_PEERCRED = 17
const SO_PEERGROUPS = 59 // since Linux 4.13
const UCRED = 12 // bytes: pid, uid, gid
const MAX_GROUPS = 65_536 // the kernel's own bound

/** The process at the other end of a unix socket, as the kernel knew it when it connected. */
export interface Peer {
  /** 0 when it is in another namespace of processes than ours. */
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** The others of its groups. */
  readonly groups: readonly number[]
}

/**
 * Who is at the other end of a connected unix socket. What the process became since it connected does not count.
 *
 * @throws {SystemError} for a descriptor that is none
 */
export function peerOf(fd: number): Peer {
  const credentials = option(fd, SO_PEERCRED, UCRED)
  return {
    pid: credentials.readInt32LE(0),
    uid: credentials.readUInt32LE(4),
    gid: credentials.readUInt32LE(8),
    groups: groupsOf(fd),
  }
}

function groupsOf(fd: number): number[] {
  const bytes = option(fd, SO_PEERGROUPS, MAX_GROUPS * 4)
  return Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(index * 4))
}

function option(fd: number, name: number, size: number): Buffer {
  const value = Buffer.alloc(size)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(size)
  getsockopt(`fd ${fd}`, fd, SOL_SOCKET, name, value, length)
  return value.subarray(0, length.readUInt32LE())
}

const getsockopt = declare('int getsockopt(int fd, int level, int name, void *value, void *length)')
