import { unlinkSync } from 'node:fs'
import koffi from 'koffi'
import { cString, declare, isSystemError } from './system.ts'

const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const MSG_CMSG_CLOEXEC = 0x40000000
const MAX_PATH = 107 // bytes, without the NUL

// recvmsg's arguments in one block of memory, as 64-bit Linux lays them out (little-endian, as all hosts we run on):
//   0 msghdr (56)   56 iovec (16)   72 payload (4096)   4168 control (64)
const IOVEC = 56
const PAYLOAD = 72
const PAYLOAD_BYTES = 4096
const CONTROL = PAYLOAD + PAYLOAD_BYTES
const CONTROL_BYTES = 64
const CMSG_HEADER = 16

/** A listening unix socket of mode 0600 that descriptors may be sent to; disposing it removes its file. */
export interface FdSocket extends Disposable {
  readonly path: string
  /**
   * The descriptor that the first peer in the queue sent, close-on-exec, or undefined when nobody has connected.
   * It does not wait: the sender must have sent by then. The caller closes it.
   * @throws {SystemError} EAGAIN when somebody connected and sent nothing, and a plain error when no descriptor came with it
   */
  receive(): number | undefined
}

/** @param path at most 107 bytes; nothing may be there */
export function listenForFd(path: string): FdSocket {
  const fd = socket(path, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
  const opened = { path, receive: () => receive(path, fd), [Symbol.dispose]: () => close(path, fd) }
  try {
    const address = socketAddress(path)
    bind(path, fd, address, address.length)
    chmod(path, cString(path), 0o600)
    listen(path, fd, 1)
  } catch (error) {
    opened[Symbol.dispose]()
    throw error
  }
  return {
    ...opened,
    [Symbol.dispose]() {
      opened[Symbol.dispose]()
      unlinkSync(path)
    },
  }
}

function socketAddress(path: string): Uint8Array {
  const bytes = Buffer.from(path)
  if (bytes.length > MAX_PATH) throw new RangeError(`Cannot listen on "${path}": longer than ${MAX_PATH} bytes`)
  const address = Buffer.alloc(2 + bytes.length + 1)
  address.writeUInt16LE(AF_UNIX, 0)
  bytes.copy(address, 2)
  return address
}

function receive(path: string, listening: number): number | undefined {
  let peer: number
  try {
    peer = accept4(path, listening, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK)
  } catch (error) {
    if (isSystemError(error, 'EAGAIN')) return undefined
    throw error
  }
  try {
    return receiveFrom(path, peer)
  } finally {
    close(path, peer)
  }
}

function receiveFrom(path: string, peer: number): number {
  const message = Buffer.alloc(CONTROL + CONTROL_BYTES)
  const base = koffi.address(message)
  message.writeBigUInt64LE(base + BigInt(IOVEC), 16) // msg_iov
  message.writeBigUInt64LE(1n, 24) // msg_iovlen
  message.writeBigUInt64LE(base + BigInt(CONTROL), 32) // msg_control
  message.writeBigUInt64LE(BigInt(CONTROL_BYTES), 40) // msg_controllen
  message.writeBigUInt64LE(base + BigInt(PAYLOAD), IOVEC)
  message.writeBigUInt64LE(BigInt(PAYLOAD_BYTES), IOVEC + 8)
  recvmsg(path, peer, message, MSG_CMSG_CLOEXEC)

  const length = Number(message.readBigUInt64LE(CONTROL))
  const isRights = message.readInt32LE(CONTROL + 8) === SOL_SOCKET && message.readInt32LE(CONTROL + 12) === SCM_RIGHTS
  if (!isRights || length < CMSG_HEADER + 4) throw new Error(`No descriptor came through "${path}"`)
  const fds = Array.from({ length: (length - CMSG_HEADER) / 4 }, (_, i) =>
    message.readInt32LE(CONTROL + CMSG_HEADER + 4 * i),
  )
  const [fd = -1, ...surplus] = fds
  for (const extra of surplus) close(path, extra)
  return fd
}

const socket = declare('int socket(int domain, int type, int protocol)')
const bind = declare('int bind(int fd, const void *address, uint length)')
const listen = declare('int listen(int fd, int backlog)')
const accept4 = declare('int accept4(int fd, void *address, void *length, int flags)')
const recvmsg = declare('long recvmsg(int fd, void *message, int flags)')
const chmod = declare('int chmod(const char *path, uint mode)')
const close = declare('int close(int fd)')
