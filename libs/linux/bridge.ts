import { closeSync, writeFileSync } from 'node:fs'
import { cString, declare, isSystemError } from './system.ts'

const AF_INET = 2
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const SIOCBRADDBR = 0x89a0

/**
 * Makes a bridge in our network namespace, unless there is a device of that name. Its IPv6 addresses are used at once: for one
 * or two seconds after a device has come up, the kernel would otherwise ask around whether somebody else has them.
 *
 * @param name of the device, at most 15 bytes
 * @throws {SystemError} EPERM without CAP_NET_ADMIN, EINVAL for a name that the kernel does not take
 */
export function ensureBridge(name: string): void {
  const fd = socket(name, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  try {
    ioctl(name, fd, SIOCBRADDBR, cString(name))
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/accept_dad`, '0')
  } catch (error) {
    const there = isSystemError(error, 'EEXIST')
    const fixed = isSystemError(error, 'EROFS', 'ENOENT') // a container's /proc, or no IPv6: the bridge is as good as any
    if (!there && !fixed) throw error
  } finally {
    closeSync(fd)
  }
}

const socket = declare('int socket(int domain, int type, int protocol)')
const ioctl = declare('int ioctl(int fd, ulong request, const void *argument)')
