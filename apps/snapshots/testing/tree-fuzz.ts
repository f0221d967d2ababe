/** Random things that a container may do to its files. What cannot be done, because of what was done before, is left. */
import {
  chmodSync,
  closeSync,
  constants,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { lsetxattr, lutimesNs, mkfifo, mknod } from '@gantry/linux/file'
import { isSystemError } from '@gantry/linux/system'
import fc from 'fast-check'

export interface Deed {
  readonly what: keyof typeof DEEDS
  readonly path: string
  readonly other: string
  readonly number: number
}

/** FIFOs do not let wait; device numbers are such as no device has. */
const WRITE = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NONBLOCK
const NAMES = ['a', 'b', 'ü', 'n'.repeat(130)]
const path = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 }).map((names) => names.join('/'))

const DEEDS = {
  write: (at: string, _: string, number: number) => {
    const fd = openSync(at, WRITE)
    writeFileSync(fd, 'x'.repeat(number % 5000))
    closeSync(fd)
  },
  mkdir: (at: string) => mkdirSync(at, { recursive: true }),
  remove: (at: string) => rmSync(at, { recursive: true }),
  renew: (at: string) => {
    rmSync(at, { recursive: true })
    mkdirSync(at)
  },
  rename: (at: string, to: string) => renameSync(at, to),
  link: (at: string, to: string) => linkSync(at, to),
  symlink: (at: string, _: string, number: number) => symlinkSync(`nowhere/${'../'.repeat(number % 60)}${number}`, at),
  chmod: (at: string, _: string, number: number) => chmodSync(at, number % 0o10000),
  chown: (at: string, _: string, number: number) => lchownSync(at, number % 70_000, number % 3_000_000_000),
  attribute: (at: string, _: string, number: number) =>
    lsetxattr(at, `user.n${number % 3}`, Buffer.from([number % 256])),
  touch: (at: string, _: string, number: number) => lutimesNs(at, 1n, BigInt(number) * 1_000_000_007n),
  fifo: (at: string) => mkfifo(at, 0o640),
  node: (at: string, _: string, number: number) => mknod(at, 0o060600, 4000 + (number % 90), number % 1_000_000),
  truncate: (at: string, _: string, number: number) => truncateSync(at, number % 100_000),
} as const

export const deeds: fc.Arbitrary<readonly Deed[]> = fc.array(
  fc.record({
    what: fc.oneof(
      fc.constantFrom('write', 'write', 'mkdir', 'remove', 'renew'),
      fc.constantFrom(...(Object.keys(DEEDS) as (keyof typeof DEEDS)[])),
    ),
    path,
    other: path,
    number: fc.nat(),
  }),
  { minLength: 15, maxLength: 60 },
)

/** Paths stay below `root`: links lead to where nothing is, and nothing can be made. */
export function perform(root: string, all: readonly Deed[]): void {
  for (const { what, path, other, number } of all) {
    try {
      DEEDS[what](join(root, path), join(root, other), number)
    } catch (error) {
      if (!isSystemError(error)) throw error
    }
  }
}
