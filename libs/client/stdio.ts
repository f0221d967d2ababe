import { closeSync, constants, mkdirSync, mkdtempSync, openSync, rmSync, statSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { type Readable, Writable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import { mkfifo } from '@gantry/linux/file'
import { Fault } from '@gantry/model/fault'
import { leftStdio, type StdioPaths } from './left-stdio.ts'

const FIFO_MODE = 0o700
const IDLE_MS = 300 // an output that is quiet this long after the exit is held open by a stray process: nothing is missed

/** What says that nothing more comes; of a source that is torn down the last is all that is heard. */
const ENDS = ['end', 'error', 'close'] as const

/**
 * Where a process reads and writes. What is left out reads as empty and is thrown away. With a terminal, stderr is part of stdout.
 * A log URI (`file:///path`, `binary:///path?k=v`) replaces both outputs, for a process that outlives its client.
 */
export interface StdioOptions {
  readonly stdin?: Readable
  readonly stdout?: Writable
  readonly stderr?: Writable
  readonly logUri?: string
  /** FIFOs for whoever attaches later, instead of streams of ours. What is written waits there, 64 KiB, then the process does. */
  readonly kept?: boolean
}

/** The client's end of a process's stdio. Disposing it closes and removes everything at once. */
export interface Stdio extends Disposable {
  /** What the server is told: paths or URIs, '' for none. */
  readonly paths: StdioPaths
  /** Begins to feed the input: the server has opened its end by now. Calls back once, when the input has ended. */
  started(onStdinEnd: () => void): void
  /** Resolves when all output is copied. */
  drained(): Promise<void>
  /** Closes our ends; the FIFOs stay, for another client. */
  leave(): void
}

/**
 * Makes the FIFOs of one process and opens our ends before the server hears of them, so that nobody waits for a peer.
 *
 *     <fifoDir>/<random>/<name>-stdin  <name>-stdout  <name>-stderr
 *
 * @param fifoDir empty where the server cannot reach them
 * @param name the container id or exec id
 * @throws {Fault} `failed-precondition` for a stream that the server could not reach
 */
export function openStdio(fifoDir: string, process: { name: string; terminal: boolean }, options: StdioOptions): Stdio {
  const { stdin, stdout, stderr, kept = false, logUri } = options
  if (!stdin && !stdout && !stderr && !kept)
    return leftStdio('', { stdin: '', stdout: logUri ?? '', stderr: logUri ?? '' })
  checkReach(fifoDir)
  mkdirSync(fifoDir, { recursive: true, mode: 0o700 })
  using made = new DisposableStack() // nothing is left when one of them cannot be made
  const dir = mkdtempSync(`${fifoDir}/`)
  made.defer(() => rmSync(dir, { recursive: true, force: true }))
  const fifo = (name: string): string => {
    const path = join(dir, `${process.name}-${name}`)
    mkfifo(path, FIFO_MODE)
    return path
  }
  const paths = {
    stdin: stdin || kept ? fifo('stdin') : '',
    stdout: logUri ?? fifo('stdout'), // containerd's shim takes both outputs or none
    stderr: logUri ?? (process.terminal ? '' : fifo('stderr')),
  }
  const ends = kept ? NO_ENDS : openEnds(paths, options)
  made.move()
  return stdioOf(fifoDir, paths, ends)
}

/**
 * Joins a process that is there, by the paths that the server has.
 *
 * @throws {Fault} `failed-precondition` when there is nothing to join
 */
export function attachStdio(fifoDir: string, given: StdioPaths, options: StdioOptions): Stdio {
  const bare = (path: string): string => path.replace(/^fifo:\/\//, '')
  const paths = { stdin: bare(given.stdin), stdout: bare(given.stdout), stderr: bare(given.stderr) }
  checkReach(fifoDir)
  for (const path of [paths.stdin, paths.stdout, paths.stderr].filter((path) => path !== ''))
    if (!statSync(path, { throwIfNoEntry: false })?.isFIFO())
      throw new Fault('failed-precondition', `Cannot connect to the process: its output or input is ${path}, no FIFO`)
  if (paths.stdout === '')
    throw new Fault('failed-precondition', 'Cannot connect to the process: its output goes nowhere')
  return stdioOf(fifoDir, paths, openEnds(paths, options))
}

function checkReach(fifoDir: string): void {
  if (fifoDir === '')
    throw new Fault(
      'failed-precondition',
      'Cannot connect input or output of the process: they go over FIFOs of one host; use the socket of the node there, or run it detached',
    )
}

function stdioOf(fifoDir: string, paths: StdioPaths, { input, outputs }: Ends): Stdio {
  const leave = (): void => {
    for (const end of [input, ...outputs]) end?.close()
  }
  const left = leftStdio(fifoDir, paths)
  return {
    paths,
    leave,
    started: (onStdinEnd) => input?.start(onStdinEnd),
    async drained() {
      await Promise.all(outputs.map((output) => output.drained()))
    },
    [Symbol.dispose]() {
      leave()
      left[Symbol.dispose]()
    },
  }
}

interface Ends {
  readonly input: Input | undefined
  readonly outputs: readonly Output[]
}

const NO_ENDS: Ends = { input: undefined, outputs: [] }

/** Our ends of FIFOs that are there; an output that nobody wants is read all the same. */
function openEnds({ stdin, stdout, stderr }: StdioPaths, options: StdioOptions): Ends {
  using opened = new DisposableStack()
  const input =
    options.stdin && stdin !== '' ? opened.adopt(openInput(stdin, options.stdin), ({ close }) => close()) : undefined
  const outputs = [
    { path: stdout, to: options.stdout ?? nowhere() },
    { path: stderr, to: options.stderr ?? nowhere() },
  ]
    .filter(({ path }) => path.startsWith('/'))
    .map((one) => opened.adopt(openOutput(one), ({ close }) => close()))
  opened.move()
  return { input, outputs }
}

function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() })
}

interface Input {
  start(onEnd: () => void): void
  close(): void
}

interface Output {
  drained(): Promise<void>
  close(): void
}

/**
 * Copies `source` into a FIFO. It is opened for both directions, which never waits and never breaks; nothing reads our
 * read side. `source` is only read once the process runs, so its end cannot overtake the start.
 */
function openInput(path: string, source: Readable): Input {
  const fifo = socketOf(openSync(path, constants.O_RDWR | constants.O_NONBLOCK), { readable: false, writable: true })
  fifo.on('error', () => fifo.destroy())
  let finish = (): void => undefined
  const close = (): void => {
    source.unpipe(fifo)
    for (const event of ENDS) source.removeListener(event, finish)
    source.pause()
    fifo.destroy()
  }
  return {
    close,
    start(onEnd) {
      let isOver = false
      finish = () => {
        if (isOver) return
        isOver = true
        // an empty write is called back when everything before it is written
        fifo.write(new Uint8Array(), () => {
          fifo.destroy()
          onEnd()
        })
      }
      if (source.readableEnded || source.destroyed) return finish()
      for (const event of ENDS) source.once(event, finish)
      source.pipe(fifo, { end: false })
    },
  }
}

/**
 * Copies a FIFO to `to`, which is left open. It ends when the last writer has gone. When `to` breaks, the output is thrown
 * away: a process must not hang on a client's broken pipe.
 */
function openOutput({ path, to }: { path: string; to: Writable }): Output {
  const fifo = socketOf(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), { readable: true, writable: false })
  const closed = new Promise<void>((resolve) => fifo.once('close', () => resolve()))
  const discard = (): void => {
    fifo.unpipe(to)
    fifo.resume()
  }
  to.once('error', discard)
  to.once('close', discard)
  fifo.on('error', () => fifo.destroy())
  fifo.pipe(to, { end: false })
  return {
    drained: () => Promise.race([closed, quiet(fifo, to)]),
    close() {
      to.removeListener('error', discard)
      to.removeListener('close', discard)
      fifo.unpipe(to)
      fifo.destroy()
    },
  }
}

function socketOf(fd: number, ways: { readable: boolean; writable: boolean }): Socket {
  try {
    return new Socket({ fd, ...ways })
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** Resolves when nothing has come for a while, not counting the time that `to` cannot take more. */
async function quiet(fifo: Socket, to: Writable): Promise<void> {
  for (let before = -1; !fifo.destroyed; ) {
    const now = fifo.bytesRead
    if (now === before && !to.writableNeedDrain) return
    before = now
    await setTimeout(IDLE_MS, undefined, { ref: false })
  }
}
