import { randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import type { ProcessId } from '@gantry/linux/process'
import { type FdSocket, listenForFd } from '@gantry/linux/socket'
import { spawnDetached } from '@gantry/linux/spawn'

/** The processes beside a container that keep its stdio going while we are away. */
export interface Helpers {
  readonly input: ProcessId | null
  readonly output: ProcessId | null
  readonly logger: ProcessId | null
}

/** Where helpers run: they work in the process folder, by which they are found after a crash. */
export interface Place {
  readonly folder: string
  readonly env: { readonly PATH: string }
}

/** A socket that an OCI runtime sends the terminal to. Its path is short, as the kernel takes 107 bytes at most. */
export function openConsoleSocket(state: string): FdSocket {
  const folder = join(state, 'console')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return listenForFd(join(folder, randomBytes(6).toString('hex')))
}

/**
 * Takes the terminal that came through the socket and starts a copier for each direction. The runtime has sent it by the
 * time `create` or `exec` returns. The copier of the output ends when the last process lets go of the terminal.
 */
export async function startCopiers(
  socket: FdSocket,
  files: { readonly input: number | undefined; readonly output: number },
  place: Place,
): Promise<Omit<Helpers, 'logger'>> {
  const master = socket.receive()
  if (master === undefined) throw new Error('The OCI runtime sent no terminal')
  try {
    return {
      output: await startHelper('cat', [], [master, files.output], place),
      input: files.input === undefined ? null : await startHelper('cat', [], [files.input, master], place),
    }
  } finally {
    closeSync(master)
  }
}

/** Holds the write side of an input FIFO open until it is killed. */
export function startHolder(inputHold: number, place: Place): Promise<ProcessId> {
  return startHelper('sleep', ['infinity'], ['ignore', inputHold], place)
}

/** Starts a process that lives on without us and has only the two descriptors it is given. */
async function startHelper(
  program: string,
  args: readonly string[],
  stdio: readonly ['ignore' | number, number],
  { folder, env }: Place,
): Promise<ProcessId> {
  const nothing = openSync('/dev/null', 'r+')
  try {
    const fds = [stdio[0] === 'ignore' ? nothing : stdio[0], stdio[1], nothing]
    return await spawnDetached({ program, args, env, cwd: folder, fds })
  } finally {
    closeSync(nothing)
  }
}
