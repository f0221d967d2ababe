import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { createWriteStream, mkdirSync, rmSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { toBinary } from '@bufbuild/protobuf'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import { isSystemError } from '@gantry/linux/system'
import { Fault, isFault } from '@gantry/model/fault'

const MAX_STEPS = 8 // programs one after the other, for one layer
const MAX_STDERR = 4096 // characters shown of what a program complains about

/** A program that turns layers of one media type into another, such as one that decrypts. */
export interface Processor {
  /** What payloads for it are called. */
  readonly id: string
  readonly accepts: readonly string[]
  readonly returns: string
  readonly path: string
  readonly args: readonly string[]
  /** `KEY=value`; besides these it gets PATH and STREAM_PROCESSOR_MEDIATYPE. */
  readonly env: readonly string[]
}

/** What is left to be decompressed and laid out. Disposing deletes it, when it is not the blob itself. */
export interface Processed extends AsyncDisposable {
  readonly path: string
  readonly mediaType: string
}

/** Runs the programs that the operator has configured for a media type; they win over what is built in. */
export interface Processors {
  accept(mediaType: string): boolean
  /**
   * @throws {Fault} `failed-precondition` when a program cannot be run, or fails, with what it says about it;
   *   `resource-exhausted` when it writes more than a layer may have
   */
  run(layer: Layer, payloads: Readonly<Record<string, Any>>, signal: AbortSignal): Promise<Processed>
}

interface Layer {
  readonly path: string
  readonly mediaType: string
}

interface ProcessorsParts {
  readonly processors: readonly Processor[]
  /** Folder for what they write, on disk: it may be large. It is emptied. */
  readonly folder: string
  /** Most bytes that one of them may write. */
  readonly maxBytes: number
  /** PATH: where programs without a folder are looked for. */
  readonly searchPath: string
}

/**
 * A program reads the layer from its stdin and writes to its stdout; a payload for it, which a client may have sent, is an
 * Any on descriptor 3.
 */
export function createProcessors({ processors, folder, ...parts }: ProcessorsParts): Processors {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const find = (mediaType: string): Processor | undefined =>
    processors.find(({ accepts }) => accepts.includes(mediaType))

  return {
    accept: (mediaType) => find(mediaType) !== undefined,
    async run(layer, payloads, signal) {
      let at: Processed = { ...layer, async [Symbol.asyncDispose]() {} }
      for (let steps = 0, next = find(at.mediaType); next; next = find(at.mediaType)) {
        await using before = at
        if (++steps > MAX_STEPS)
          throw new Fault('failed-precondition', `Cannot process the layer: over ${MAX_STEPS} programs want it in turn`)
        const path = join(folder, randomUUID())
        const after = { path, mediaType: next.returns, [Symbol.asyncDispose]: () => rm(path, { force: true }) }
        await using failed = new AsyncDisposableStack()
        failed.use(after)
        await runOne(next, { from: before, to: path, payload: payloads[next.id] }, { ...parts, signal })
        failed.move()
        at = after
      }
      return at
    },
  }
}

interface Step {
  readonly from: Layer
  readonly to: string
  readonly payload: Any | undefined
}

/** Runs one program to its end, in a process group of its own, of which nothing is left then. */
async function runOne(
  processor: Processor,
  { from, to, payload }: Step,
  { maxBytes, searchPath, signal }: { maxBytes: number; searchPath: string; signal: AbortSignal },
): Promise<void> {
  await using input = await open(from.path, 'r')
  const child = spawn(processor.path, [...processor.args], {
    cwd: '/',
    detached: true,
    env: { PATH: searchPath, ...pairsOf(processor.env), STREAM_PROCESSOR_MEDIATYPE: from.mediaType },
    stdio: [input.fd, 'pipe', 'pipe', ...(payload ? ['pipe' as const] : [])],
  })
  const end = endOf(child)
  const complaint = textOf(child.stderr)
  give(child, payload)
  using _ = killing(child, signal)
  const lost = await stored(child, to, maxBytes)
  if (lost !== undefined) killGroup(child) // it may wait for somebody to read
  const failure = await end
  if (signal.aborted) throw new Fault('cancelled', 'The call was cancelled')
  if (isFault(lost) || isSystemError(lost)) throw lost
  if (failure !== undefined)
    throw new Fault('failed-precondition', `Cannot process the layer: ${processor.id} ${failure}${complaint()}`)
  if (lost !== undefined) throw lost
}

/** Answers why not, if not. A program that ends too early may look like that as well. */
async function stored({ stdout }: ChildProcess, to: string, maxBytes: number): Promise<unknown> {
  if (!stdout) return undefined
  try {
    await pipeline(stdout, atMost(maxBytes), createWriteStream(to, { flags: 'wx', mode: 0o600 }))
    return undefined
  } catch (error) {
    return error
  }
}

function pairsOf(env: readonly string[]): Record<string, string> {
  return Object.fromEntries(env.map((pair) => [pair.replace(/=.*$/s, ''), pair.replace(/^[^=]*=?/, '')]))
}

/** A program need not read what it is given. */
function give({ stdio: [, , , given] }: ChildProcess, payload: Any | undefined): void {
  if (!payload || !(given instanceof Writable)) return
  given.on('error', () => {})
  given.end(toBinary(AnySchema, payload))
}

function atMost(bytes: number) {
  return async function* (chunks: AsyncIterable<Buffer>) {
    let left = bytes
    for await (const chunk of chunks) {
      left -= chunk.length
      if (left < 0)
        throw new Fault('resource-exhausted', `Cannot process the layer: it becomes more than ${bytes} bytes`)
      yield chunk
    }
  }
}

/** What went wrong, or undefined. */
function endOf(child: ChildProcess): Promise<string | undefined> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(`cannot be run: ${error.message}`))
    child.once('close', (code, by) =>
      resolve(code === 0 ? undefined : code === null ? `was ended by ${by}` : `exits with ${code}`),
    )
  })
}

/** What was said, as the end of a message. */
function textOf(stream: Readable | null): () => string {
  let text = ''
  stream?.setEncoding('utf8').on('data', (piece: string) => {
    text = (text + piece).slice(0, MAX_STDERR)
  })
  return () => (text.trim() === '' ? '' : `: ${text.trim()}`)
}

/** Kills the group when the call ends, and when this is disposed. */
function killing(child: ChildProcess, signal: AbortSignal): Disposable {
  const kill = (): void => killGroup(child)
  signal.addEventListener('abort', kill, { once: true })
  if (signal.aborted) kill()
  return {
    [Symbol.dispose]() {
      signal.removeEventListener('abort', kill)
      kill()
    },
  }
}

function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (!isSystemError(error, 'ESRCH')) throw error
  }
}
