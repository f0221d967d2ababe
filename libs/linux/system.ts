import { getSystemErrorName, promisify } from 'node:util'
import koffi from 'koffi'

/**
 * What a declared function takes: a byte array is passed by address, a string as UTF-8 with its NUL, a list of strings as C has
 * them, with a null at its end.
 */
export type Argument = number | bigint | string | Uint8Array | null | readonly (string | null)[]

/** A path as `node:fs` takes it. Bytes are for names that are not UTF-8. */
export type Path = string | Uint8Array

/** A system call failed. It has the fields of Node's own errors, so both are handled alike. */
export class SystemError extends Error {
  override readonly name = 'SystemError'
  /** Symbolic name, such as `ENOENT`. */
  readonly code: string
  readonly errno: number
  readonly syscall: string
  readonly path: string

  constructor(errno: number, syscall: string, path: string) {
    const code = getSystemErrorName(-errno)
    super(path === '' ? `${code}: ${syscall}` : `${code}: ${syscall} '${path}'`)
    this.code = code
    this.errno = errno
    this.syscall = syscall
    this.path = path
  }
}

/** Is `error` the failure of a system call, Node's or ours, with one of these codes (any when none is given)? */
export function isSystemError(error: unknown, ...codes: readonly string[]): error is Error & { readonly code: string } {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return false
  return codes.length === 0 || codes.some((code) => code === error.code)
}

/** A function of libc. `where` names the path or descriptor in the error; the result is never -1. */
export type SystemFunction = (where: Path, ...args: Argument[]) => number

const libc = koffi.load(null) // what the process is linked with already: glibc or musl

/**
 * Declares a function of libc that answers -1 and sets errno when it fails, by its C prototype.
 * errno is asked for by a second call, so nothing may run between the two.
 * @throws {SystemError} from the function it returns
 */
export function declare(prototype: string): SystemFunction {
  const call = libc.func(prototype)
  const name = call.info.name
  return (where, ...args) => {
    const result = Number(call(...args))
    if (result === -1) throw new SystemError(koffi.errno(), name, toText(where))
    return result
  }
}

/**
 * Declares a function of libc that blocks, to be called on a thread of the pool while this one goes on. errno is that
 * thread's and cannot be asked for. Memory that it is given has to stay until it is over.
 */
export function declareBlocking(prototype: string): (...args: Argument[]) => Promise<number> {
  const call = libc.func(prototype)
  return async (...args) => Number(await promisify(call.async)(...args))
}

/** The bytes of a path with the NUL that C wants. */
export function cString(path: Path): Uint8Array {
  return typeof path === 'string' ? Buffer.from(`${path}\0`) : Buffer.concat([path, NUL])
}

const NUL = new Uint8Array(1)

function toText(path: Path): string {
  return typeof path === 'string' ? path : Buffer.from(path).toString()
}
