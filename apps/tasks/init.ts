import { Fault } from '@gantry/model/fault'
import type { Host } from './runtime/choose.ts'
import { editSpec, isObject } from './spec.ts'

const PLACE = '/sbin/docker-init' // in the container, where Docker has it

/**
 * The specification of a container whose command runs under a small init: its first process passes signals on, reaps what is
 * orphaned, and ends with the exit code of the command.
 *
 * @param program absolute path on the host, statically linked: the container has no libraries for it
 * @throws {Fault} `invalid-argument` for a specification without a process
 */
export function withInit(spec: string, program: string): string {
  return editSpec(spec, (root) => {
    const { process } = root
    if (!isObject(process) || !Array.isArray(process.args))
      throw new Fault('invalid-argument', 'Cannot run the container under an init: its specification has no process')
    process.args = [PLACE, '--', ...process.args]
    const mount = { type: 'bind', source: program, destination: PLACE, options: ['bind', 'ro', 'nosuid', 'nodev'] }
    root.mounts = [...(Array.isArray(root.mounts) ? root.mounts : []), mount]
  })
}

/** The path of the small init. @throws {Fault} `failed-precondition` when it is not installed */
export function findInit(host: Pick<Host, 'find'>, name: string): string {
  const program = host.find(name)
  if (program !== undefined) return program
  throw new Fault('failed-precondition', `Cannot find the init "${name}": install catatonit, or set init in [tasks]`)
}
