import { fchownSync, fstatSync, mkdirSync } from 'node:fs'
import { identify, processesIn, sendSignal } from '@gantry/linux/process'
import { Fault } from '@gantry/model/fault'
import { readText } from '../cgroup.ts'
import type { Live } from '../task.ts'
import { type Report, startMonitor, type Work } from './conmon.ts'
import { type Helpers, openConsoleSocket, startCopiers, startHolder } from './console.ts'
import { type Logger, startLogger } from './logger.ts'
import type { OciParts } from './oci.ts'
import { type Commanding, runRuntime } from './runc.ts'
import type { RuntimeChoice, RuntimeProcess } from './runtime.ts'
import { loggerOf, openStdio, openTerminalStdio } from './stdio.ts'

const SIGKILL = 9
const LAUNCH_MS = 300_000 // how long the runtime may take to create or exec, with its hooks

/**
 * Starts one process of a container with its stdio. When it fails, or takes longer than five minutes, nothing is left; only
 * restoring may take as long as it does.
 *
 * Without a terminal the process writes straight into the client's FIFOs, and a holder keeps the input open. With one, the
 * runtime sends us its end and two copiers take it; holder and copiers outlive us, as the monitor does.
 * @throws {Fault} `unknown` with the runtime's words in containerd's wrapping, which clients match
 */
export async function launch(
  parts: LaunchParts & { readonly hurry: () => void },
  process: RuntimeProcess,
  work: Work,
): Promise<Live> {
  const { task, execId, stdio } = process
  const folder = task.bundle.processDir(execId)
  mkdirSync(task.runtime.root, { recursive: true, mode: 0o700 })
  parts.hurry()
  const late = work.verb === 'restore' ? undefined : setTimeout(() => discard(folder), LAUNCH_MS)
  try {
    const start = stdio.terminal ? launchOnTerminal : launchPlain
    const [report, helpers] = await start(parts, process, work)
    if (!report.ok) throw refusal(work, report.error)
    return { process: report.process, monitor: report.monitor, ...helpers }
  } catch (error) {
    discard(folder)
    if (work.verb !== 'exec') await runRuntime(task.runtime, ['delete', '--force', task.id], parts).catch(ignore)
    throw error
  } finally {
    clearTimeout(late)
  }
}

type LaunchParts = OciParts & Commanding
type Launched = readonly [Report, Helpers]

async function launchPlain(parts: LaunchParts, process: RuntimeProcess, work: Work): Promise<Launched> {
  const folder = process.task.bundle.processDir(process.execId)
  using logger = await startLoggerOf(process, folder)
  using opened = openStdio(process.stdio, logger)
  own(process.task.runtime, [opened.input, opened.output, opened.error])
  using reached = parts.reach(process.task.runtime.binary)
  const starting = startMonitor({
    ...{ conmon: parts.conmon(), env: parts.env, reached, task: process.task, folder, work },
    consoleSocket: undefined,
    stdio: [opened.input, opened.output, opened.error],
  })
  const holding = opened.inputHold === undefined ? null : startHolder(opened.inputHold, { folder, env: parts.env })
  await Promise.allSettled([starting, holding]) // until then the descriptors are needed
  return [await starting, { input: await holding, output: null, logger: logger?.process ?? null }]
}

async function launchOnTerminal(parts: LaunchParts, process: RuntimeProcess, work: Work): Promise<Launched> {
  const folder = process.task.bundle.processDir(process.execId)
  using logger = await startLoggerOf(process, folder)
  using socket = openConsoleSocket(parts.state)
  using nothing = openStdio({ stdin: '', stdout: '', stderr: '', terminal: true })
  using reached = parts.reach(process.task.runtime.binary)
  const report = await startMonitor({
    ...{ conmon: parts.conmon(), env: parts.env, reached, task: process.task, folder, work },
    consoleSocket: socket.path,
    stdio: [nothing.input, nothing.output, nothing.error],
  })
  if (!report.ok) return [report, { input: null, output: null, logger: null }]
  using files = openTerminalStdio(process.stdio, logger)
  const copiers = await startCopiers(socket, files, { folder, env: parts.env })
  return [report, { ...copiers, logger: logger?.process ?? null }]
}

async function startLoggerOf({ task, execId, stdio }: RuntimeProcess, folder: string): Promise<Logger | undefined> {
  const program = loggerOf(stdio)
  return program && startLogger(program, { id: execId || task.id, namespace: task.namespace, folder })
}

/** Gives pipes and FIFOs to the container's user, who could not open `/dev/stdout` else. Files and devices keep their owner. */
function own({ ioUid, ioGid }: RuntimeChoice, fds: readonly number[]): void {
  if (!ioUid && !ioGid) return
  for (const fd of fds) if (fstatSync(fd).isFIFO()) fchownSync(fd, ioUid, ioGid)
}

/**
 * Ends what a crash or a failure left in a process folder: the monitor with its children, holders and copiers. They are
 * found by their working folder, since no record names them yet.
 */
export function discard(folder: string): void {
  for (const found of processesIn(folder)) {
    const children = readText(`/proc/${found.pid}/task/${found.pid}/children`).split(' ').filter(Boolean)
    for (const child of children.flatMap((pid) => identify(Number(pid)) ?? [])) sendSignal(child, SIGKILL)
    sendSignal(found, SIGKILL)
  }
}

function refusal({ verb }: Work, error: string): Fault {
  const where = verb === 'create' ? 'failed to create shim task: ' : ''
  return new Fault('unknown', `${where}OCI runtime ${verb} failed: ${error}: unknown`)
}

function ignore(): void {
  // the runtime may never have heard of the container
}
