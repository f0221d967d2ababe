import { existsSync } from 'node:fs'
import type { Login } from '@gantry/client/auth'
import { createKeyring, type Found, type Keyring } from '@gantry/client/credentials'
import { dockerConfigFile } from '@gantry/client/docker-config'
import { Fault } from '@gantry/model/fault'
import type { Context } from './context.ts'

/** The credentials of whoever runs the command. @throws {Fault} `failed-precondition` for one without a home */
export function openKeyring({ env }: Pick<Context, 'env'>): Keyring {
  const file = dockerConfigFile(env)
  if (file === undefined)
    throw new Fault('failed-precondition', 'Cannot find your credentials: set HOME or DOCKER_CONFIG')
  return createKeyring({ file, env })
}

/** Those for one host; undefined also for somebody without a home. */
export async function loginFor(
  { env }: Pick<Context, 'env'>,
  host: string,
  signal: AbortSignal,
): Promise<Found | undefined> {
  const file = dockerConfigFile(env)
  return file === undefined ? undefined : await createKeyring({ file, env }).find(host, signal)
}

/** What pulls and pushes answer with when the registry wants to know who asks; undefined for somebody who keeps nothing. */
export function loginOf(context: Pick<Context, 'env'>): Login | undefined {
  const file = dockerConfigFile(context.env)
  return file !== undefined && existsSync(file) ? (host, signal) => loginFor(context, host, signal) : undefined
}
