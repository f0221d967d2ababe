import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Fault } from '@gantry/model/fault'
import type { Process as Service } from '@gantry/service/process'
import { chooseRuntime, findConmon, type Host } from './choose.ts'
import type { ChildEnvironment } from './runc.ts'
import { holesOf, parseVersion } from './versions.ts'

const VERSION_MS = 5000

export interface ReportParts {
  readonly configured: string
  readonly conmon: string
  readonly host: Host
  readonly env: ChildEnvironment
  readonly log: Service['log']
}

/** Tells the operator at the start which runtime will be used and why, what is missing, and what is known against it. */
export async function reportRuntime({ configured, conmon, host, env, log }: ReportParts): Promise<void> {
  try {
    const { binary, reason } = chooseRuntime(configured, host)
    const monitor = findConmon(conmon, host)
    const { stdout } = await promisify(execFile)(binary, ['--version'], { env: { ...env }, timeout: VERSION_MS })
    const found = parseVersion(stdout)
    const version = found?.version ?? 'unknown'
    log.info({ runtime: binary, version, reason, conmon: monitor }, 'Containers are run by an OCI runtime under conmon')
    const holes = found === undefined ? [] : holesOf(found.name, found.version)
    if (holes.length > 0)
      log.warn(
        { runtime: binary, version, holes },
        'This runtime version is known for container escapes: update it, unless your distribution has fixed them',
      )
  } catch (error) {
    if (error instanceof Fault) log.warn(error.message)
    else log.warn({ err: error }, 'The runtime does not tell its version')
  }
}
