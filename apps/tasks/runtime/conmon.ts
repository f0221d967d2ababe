import { closeSync, readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { identify, openPipe, type ProcessId } from '@gantry/linux/process'
import { spawnDetached } from '@gantry/linux/spawn'
import type { Reached } from './reach.ts'
import { type ChildEnvironment, globalArgs, inWordsOfRunc, lastError } from './runc.ts'
import type { Restore, RuntimeTask } from './runtime.ts'

const MAX_REPORT = 64 * 1024 // bytes of what conmon says about the start
const SYNC_FD = 3 // the first descriptor behind stdio: conmon's report comes there

/** What the monitor has the OCI runtime do. */
export type Work =
  | { readonly verb: 'create' }
  | { readonly verb: 'exec' /** path of the OCI process */; readonly processFile: string }
  | { readonly verb: 'restore'; readonly from: Restore }

/** What to start under a monitor. */
export interface Monitored {
  /** Path of conmon. */
  readonly conmon: string
  readonly env: ChildEnvironment
  readonly reached: Reached
  readonly task: RuntimeTask
  /** The process folder, new: the monitor's working folder, where it leaves `pid`, `exit` and `oom`. */
  readonly folder: string
  readonly work: Work
  /** Path of the socket that takes the terminal, when there is one. */
  readonly consoleSocket: string | undefined
  /** What the container's process gets as its stdio: the log driver `passthrough` hands it on untouched. */
  readonly stdio: readonly [input: number, output: number, error: number]
}

/** What came of it: the pids, or the runtime's own words. */
export type Report =
  | { readonly ok: true; readonly process: ProcessId; readonly monitor: ProcessId }
  | { readonly ok: false; readonly error: string }

/**
 * Starts conmon, which runs `create`, `exec` or `restore` of the OCI runtime, and waits for its report. conmon leads a session of its
 * own, so it outlives us; we are its parent only as long as we live.
 */
export async function startMonitor(what: Monitored): Promise<Report> {
  const [monitor, report] = await spawnMonitor(what)
  const text = await firstLine(report)
  const processPid = parsePid(text)
  if (processPid === undefined) return { ok: false, error: failureOf(what, text) }
  return { ok: true, monitor, process: identify(processPid) ?? { pid: processPid, startTime: '0' } }
}

/** @returns the process, and where its report comes from */
async function spawnMonitor(what: Monitored): Promise<readonly [monitor: ProcessId, report: number]> {
  const { read, write } = openPipe()
  try {
    const env = { ...what.env, _OCI_SYNCPIPE: String(SYNC_FD) }
    const fds = [...what.stdio, write]
    return [await spawnDetached({ program: what.conmon, args: monitorArgs(what), env, cwd: what.folder, fds }), read]
  } catch (error) {
    closeSync(read)
    throw error
  } finally {
    closeSync(write)
  }
}

function monitorArgs({ task, folder, work, consoleSocket, reached }: Monitored): string[] {
  const { runtime, id, bundle } = task
  const runtimeArgs = [...reached.args, ...globalArgs(runtime), '--log', join(folder, 'log.json')]
  return [
    '--sync', // one fork less: the child we start is the monitor itself
    ...['--api-version', '1', '--cid', id, '--cuuid', id, '--name', id, '--runtime', reached.program],
    ...['--bundle', bundle.dir, '--persist-dir', folder, '--container-pidfile', join(folder, 'pid')],
    ...['--log-path', 'passthrough', '--no-sync-log'],
    ...runtimeArgs.map((arg) => `--runtime-arg=${arg}`),
    ...(consoleSocket === undefined ? [] : ['--runtime-opt=--console-socket', `--runtime-opt=${consoleSocket}`]),
    ...argsOf(work),
    ...(runtime.noPivot ? ['--no-pivot'] : []),
    ...(runtime.noNewKeyring && work.verb !== 'restore' ? ['--no-new-keyring'] : []), // which knows no such thing
  ]
}

function argsOf(work: Work): string[] {
  if (work.verb === 'create') return []
  if (work.verb === 'exec') return ['--exec', '--exec-process-spec', work.processFile]
  const { images, workPath } = work.from
  return ['--restore', images, ...(workPath ? ['--runtime-opt=--work-path', `--runtime-opt=${workPath}`] : [])]
}

/** What conmon writes first, empty when it ended without a word. Nothing is read after that. */
function firstLine(fd: number): Promise<string> {
  const pipe = new Socket({ fd, readable: true, writable: false })
  return new Promise((resolve) => {
    let text = ''
    const done = (): void => {
      pipe.destroy()
      resolve(text.split('\n', 1)[0] ?? '') // a quick exec's second line, its exit code, may come along
    }
    pipe.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.includes('\n') || text.length > MAX_REPORT) done()
    })
    pipe.on('end', done)
    pipe.on('error', done)
  })
}

/** conmon calls it `data` from API version 1 on and `pid` before; a negative one is a failure. */
function parsePid(text: string): number | undefined {
  try {
    const { data, pid = data } = JSON.parse(text)
    return typeof pid === 'number' && pid > 0 ? pid : undefined
  } catch {
    return undefined
  }
}

/** Since the stdio is the container's own, the runtime's words are in its log, and nowhere else for us. */
function failureOf(what: Monitored, report: string): string {
  try {
    const error = lastError(readFileSync(join(what.folder, 'log.json'), 'utf8'))
    if (error !== undefined) return inWordsOfRunc(error, () => programOf(what))
  } catch {
    // it did not come as far as writing a log
  }
  return report.trim() || 'the monitor ended without a report'
}

function programOf({ task, work }: Monitored): string | undefined {
  const isExec = work.verb === 'exec'
  const spec = JSON.parse(readFileSync(isExec ? work.processFile : join(task.bundle.dir, 'config.json'), 'utf8'))
  const program: unknown = (isExec ? spec : spec.process).args?.[0]
  return typeof program === 'string' ? program : undefined
}
