import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstatSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fromBinary } from '@bufbuild/protobuf'
import { BootstrapResultSchema } from '@gantry/api/containerd/runtime/bootstrap/v1/bootstrap_pb'
import { type DeleteResponse, DeleteResponseSchema } from '@gantry/api/containerd/runtime/task/v3/shim_pb'
import type { ProcessId } from '@gantry/linux/process'
import { Fault } from '@gantry/model/fault'
import type { RuntimeTask } from '../runtime/runtime.ts'

const START_MS = 10_000 // how long a shim may take to start
const DELETE_MS = 5000 // how long its `delete` action may take, as in containerd
const REST_MS = 200 // how long the rest of its output may take after its end
const MAX_OUTPUT = 64 * 1024 // bytes of what a shim answers
const FILE = 'bootstrap.json'

/** Where a shim is and how it is spoken to; kept in its bundle, so that it is found again after a restart. */
export interface Bootstrap {
  readonly version: number
  readonly address: string
  readonly protocol: string
  /** The shim itself, once it has told its pid. */
  readonly process?: ProcessId
}

/** What a shim needs to know of us. */
export interface ShimParts {
  readonly env: { readonly PATH: string }
  /** The public gRPC socket. */
  readonly grpcAddress: string
  /** Where it hands in its events. */
  readonly ttrpcAddress: string
}

/**
 * Runs the `start` action of a shim (behaviour facts, 16.3). It gets nothing on its standard input: every version then falls
 * back to flags and environment, while what newer ones are given there breaks older ones.
 * @throws {Fault} `unknown` with the shim's own words, `unimplemented` for an address or a protocol that is not spoken here
 */
export async function startShim(parts: ShimParts, task: RuntimeTask, binary: string): Promise<Bootstrap> {
  const output = await runAction(parts, task, { binary, action: 'start', timeoutMs: START_MS })
  try {
    const bootstrap = parseBootstrap(output)
    checkReachable(bootstrap)
    return saveBootstrap(task, bootstrap)
  } catch (error) {
    await runDelete(parts, task, binary).catch(() => undefined) // it runs, and nobody else will end it
    throw error
  }
}

/** Runs the `delete` action, which cleans up after a shim that is gone. @throws {Fault} `unknown` when it cannot */
export async function runDelete(parts: ShimParts, task: RuntimeTask, binary: string): Promise<DeleteResponse> {
  return fromBinary(
    DeleteResponseSchema,
    await runAction(parts, task, { binary, action: 'delete', timeoutMs: DELETE_MS }),
  )
}

export function saveBootstrap({ bundle }: RuntimeTask, bootstrap: Bootstrap): Bootstrap {
  writeFileSync(join(bundle.dir, FILE), JSON.stringify(bootstrap), { mode: 0o600 })
  return bootstrap
}

/** Undefined when the shim of a bundle has not been started. */
export function readBootstrap({ bundle }: RuntimeTask): Bootstrap | undefined {
  try {
    return JSON.parse(readFileSync(join(bundle.dir, FILE), 'utf8'))
  } catch {
    return undefined
  }
}

/** A shim answers with JSON, with a message, or as older ones do with the address alone. */
export function parseBootstrap(output: Buffer): Bootstrap {
  const text = output.toString().trim()
  if (text.startsWith('{')) {
    const { version, address, protocol } = parseJson(text)
    if (typeof version === 'number' && version >= 2 && typeof address === 'string')
      return { version, address, protocol: typeof protocol === 'string' && protocol !== '' ? protocol : 'ttrpc' }
  }
  if (/^[\x20-\x7e]+$/.test(text)) return { version: 2, address: text, protocol: 'ttrpc' }
  try {
    const { version, address, protocol } = fromBinary(BootstrapResultSchema, output)
    if (address !== '') return { version, address, protocol: protocol || 'ttrpc' }
  } catch {
    // refused below
  }
  throw new Fault('unknown', 'The shim answered its start with something else than an address')
}

/** The path that node dials for an address. @throws {Fault} `unimplemented` for what is no unix socket, such as vsock */
export function socketPathOf(address: string): string {
  const path = address.replace(/^unix:\/\//, '')
  if (path.includes('://'))
    throw new Fault('unimplemented', `Cannot reach a shim at "${address}": only unix sockets are spoken to`)
  return path.startsWith('/') ? path : `\0${path}`
}

/** @throws {Fault} `unimplemented` for a shim that is not spoken to from here */
export function checkReachable({ address, version, protocol }: Omit<Bootstrap, 'process'>): void {
  const path = socketPathOf(address)
  const isSpoken = protocol === 'ttrpc' ? version === 2 || version === 3 : protocol === 'grpc' && version === 3
  if (!isSpoken || (protocol === 'grpc' && path.startsWith('\0')))
    throw new Fault(
      'unimplemented',
      `Cannot reach a shim at "${address}": version ${version} over ${protocol} is not spoken here`,
    )
}

/** What a shim leaves when it did not end in order. */
export function removeSocket(address: string): void {
  const path = socketPathOf(address)
  if (path.startsWith('/') && lstatSync(path, { throwIfNoEntry: false })?.isSocket()) rmSync(path, { force: true })
}

function parseJson(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}

async function runAction(
  { env, grpcAddress, ttrpcAddress }: ShimParts,
  { namespace, id, bundle }: RuntimeTask,
  { binary, action, timeoutMs }: { binary: string; action: string; timeoutMs: number },
): Promise<Buffer> {
  const child = spawn(
    binary,
    [
      ...['-namespace', namespace, '-address', grpcAddress, '-publish-binary', '/bin/false'],
      ...['-id', id, '-bundle', bundle.dir, action],
    ],
    {
      cwd: bundle.dir,
      detached: true,
      env: {
        ...{ ...env, GOMAXPROCS: '2', MAX_SHIM_VERSION: '2', NAMESPACE: namespace },
        ...{ TTRPC_ADDRESS: ttrpcAddress, GRPC_ADDRESS: grpcAddress },
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  const [output, errors] = [collect(child.stdout), collect(child.stderr)]
  const code = await ended(child, timeoutMs)
  if (code === 0) return output()
  const words = `${errors()}${output()}`.trim()
  throw new Fault('unknown', `The shim "${binary}" failed to ${action}: ${words || `it ended with ${code}`}: unknown`)
}

/** Its exit code, or why there is none. The shim that it leaves behind may keep the pipes open: nobody waits for that. */
async function ended(child: ChildProcess, timeoutMs: number): Promise<number | string> {
  const timer = setTimeout(() => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL') // it leads a group of its own
  }, timeoutMs)
  child.once('exit', () => clearTimeout(timer)) // its group may be gone then, or be the shim's
  try {
    const closed = once(child, 'close').catch(() => undefined)
    const [code, signal] = await once(child, 'exit')
    await Promise.race([closed, sleep(REST_MS)])
    return code ?? signal
  } catch (error) {
    return error instanceof Error ? error.message : 'an error'
  } finally {
    clearTimeout(timer)
    child.stdout?.destroy()
    child.stderr?.destroy()
  }
}

function collect(stream: NodeJS.ReadableStream): () => Buffer {
  const chunks: Buffer[] = []
  let size = 0
  stream.on('data', (chunk: Buffer) => {
    if (size < MAX_OUTPUT) chunks.push(chunk)
    size += chunk.length
  })
  return () => Buffer.concat(chunks).subarray(0, MAX_OUTPUT)
}
