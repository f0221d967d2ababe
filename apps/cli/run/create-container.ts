import { randomBytes } from 'node:crypto'
import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import { Fault, ignoring, isFault } from '@gantry/model/fault'
import { parseIdentifier } from '@gantry/model/identifier'
import { parseLabel } from '../commands/namespaces.ts'
import { pullImage } from '../pull/pull-image.ts'
import type { Session } from '../session.ts'
import { ATTACHABLE } from './detached-log.ts'
import { networkOf } from './network-options.ts'
import { type RunOptions, specOf } from './options.ts'
import { sharedNamespaces, sharesLabel } from './sharing.ts'

const CREATE_MS = 60_000

export interface Wanted {
  /** In full. */
  readonly image: string
  readonly args: readonly string[]
  readonly options: RunOptions
}

/**
 * Makes a container as the options say; nothing runs. The image is pulled when it is not there. The last step is done or
 * undone as a whole.
 *
 * @throws {Fault} `already-exists` when the name is taken, and what pulls and options are refused with
 */
export async function createContainer(session: Session, { image, args, options }: Wanted): Promise<Container> {
  const { client, signal } = session
  const id = options.name === undefined ? randomBytes(32).toString('hex') : parseIdentifier(options.name, 'name')
  const own = specOf(options, { id, args }, session.env)
  const spec = { ...own, ...(await sharedNamespaces(client, options, signal)) }
  const network = networkOf(options)
  const labels = {
    ...Object.fromEntries(options.label.map(parseLabel)),
    ...(options.detach && options.interactive && { [ATTACHABLE]: 'true' }),
    ...sharesLabel(options),
  }
  const { platform, restart, logUri, sandbox, init } = options
  if (!(await ignoring('not-found', client.images.get(image, signal)))) await pullMissing(session, image, options)
  return create(client, {
    ...{ id, image, spec, labels },
    ...(platform !== undefined && { platform }),
    ...(network && { network }),
    ...(restart !== undefined && { restart }),
    ...(logUri !== undefined && { logUri }),
    ...(sandbox !== undefined && { sandbox }),
    ...(init && { init }),
  })
}

async function pullMissing(session: Session, image: string, { platform, plainHttp }: RunOptions): Promise<void> {
  session.stderr.write(`Image ${image} is not here: pulling it\n`)
  const wish = { ...(platform !== undefined && { platform }), ...(plainHttp && { plainHttp }) }
  await pullImage(session, image, { ...wish, out: session.json ? undefined : session.stderr })
}

async function create(
  client: GantryClient,
  wanted: Parameters<GantryClient['containers']['create']>[0],
): Promise<Container> {
  try {
    return await client.containers.create(wanted, AbortSignal.timeout(CREATE_MS))
  } catch (error) {
    if (!isFault(error, 'already-exists')) throw error
    throw new Fault(
      'already-exists',
      `Cannot run "${wanted.id}": the name is taken; remove that container with "gantry rm ${wanted.id}", or choose another`,
      { cause: error },
    )
  }
}
