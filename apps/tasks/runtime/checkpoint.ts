import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { CheckpointOptions } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { Fault, isFault } from '@gantry/model/fault'
import { createHost, type Host } from './choose.ts'
import { isCrun } from './reach.ts'
import { type Commanding, runRuntime } from './runc.ts'
import type { RuntimeTask } from './runtime.ts'

const CHECK_MS = 10_000
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin' // where criu looks for its own helpers

/** What a client may say about a checkpoint. */
export type CheckpointWish = Omit<CheckpointOptions, '$typeName' | '$unknown'>

/**
 * Writes the state of a running container into the folder `wish.imagePath`, by the OCI runtime, which has criu do it.
 * @throws {Fault} `failed-precondition` where criu is missing or does not work, or the runtime cannot use it (Debian's crun),
 *   `unknown` with the runtime's words
 */
export async function checkpointContainer(
  task: RuntimeTask,
  wish: CheckpointWish,
  commanding: Commanding,
): Promise<void> {
  await requireCriu(createHost(commanding.env.PATH))
  try {
    await runRuntime(task.runtime, ['checkpoint', ...argsOf(wish), task.id], commanding)
  } catch (error) {
    if (!isFault(error, 'unknown') || !error.message.includes('unknown command checkpoint')) throw error
    throw new Fault(
      'failed-precondition',
      `Cannot checkpoint "${task.id}": ${task.runtime.binary} is built without criu; run the container by runc`,
    )
  }
}

/** Can a runtime restore here? @throws {Fault} `failed-precondition` that says what is missing */
export async function requireRestore(binary: string, host: Pick<Host, 'find'>): Promise<void> {
  await requireCriu(host)
  if (!isCrun(binary)) return
  const { stdout } = await promisify(execFile)(binary, ['--version'], { env: { PATH }, timeout: CHECK_MS })
  if (!stdout.includes('+CRIU'))
    throw new Fault('failed-precondition', `Cannot restore: ${binary} is built without criu; run the container by runc`)
}

/** @throws {Fault} `failed-precondition` that says what to do */
export async function requireCriu(host: Pick<Host, 'find'>): Promise<void> {
  const criu = host.find('criu')
  if (criu === undefined)
    throw new Fault('failed-precondition', 'Cannot checkpoint or restore: criu is not installed; apt-get install criu')
  try {
    await promisify(execFile)(criu, ['check'], { env: { PATH }, timeout: CHECK_MS })
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : ''
    const reason = said.split('\n').at(-1) || String(error)
    throw new Fault(
      'failed-precondition',
      `Cannot checkpoint or restore: criu does not work on this host: ${reason.slice(0, 500)}`,
    )
  }
}

function argsOf(wish: CheckpointWish): string[] {
  return [
    ...['--image-path', wish.imagePath, ...(wish.workPath ? ['--work-path', wish.workPath] : [])],
    ...(wish.exit ? [] : ['--leave-running']),
    ...(wish.openTcp ? ['--tcp-established'] : []),
    ...(wish.externalUnixSockets ? ['--ext-unix-sk'] : []),
    ...(wish.terminal ? ['--shell-job'] : []),
    ...(wish.fileLocks ? ['--file-locks'] : []),
    ...(wish.cgroupsMode ? ['--manage-cgroups-mode', wish.cgroupsMode] : []),
    ...wish.emptyNamespaces.flatMap((name) => ['--empty-ns', name]),
  ]
}
