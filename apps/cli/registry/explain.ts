import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Endpoint, Registries } from '@gantry/api/gantry/content/v1/registries_pb'
import { Fault } from '@gantry/model/fault'
import { clientOf, connect } from '@gantry/rpc/client'

/** What to ask registries for, and as whom; without a secret as the node itself. */
export interface Inquiry {
  /** A complete reference, or a host. */
  readonly reference: string
  readonly plainHttp?: boolean | undefined
  readonly credentials?: { readonly username: string; readonly secret: string; readonly from: string } | undefined
}

/** The socket of `content`, beside the one of the node: the gateway does not route what is ours. */
export function contentSocket(address: string): string {
  return join(dirname(address), 'content.sock')
}

/**
 * Lets the node ask registries, as a pull would.
 *
 * @throws {Fault} `unavailable` when there is no such socket: the node does not run, or is not Gantry
 */
export async function askRegistries(address: string, inquiry: Inquiry, signal: AbortSignal): Promise<Endpoint[]> {
  const socket = contentSocket(address)
  if (!existsSync(socket)) throw new Fault('unavailable', `Cannot reach "${socket}": there is no such socket`)
  const { reference, plainHttp, credentials } = inquiry
  await using channel = connect(socket)
  const { username = '', secret = '', from: credentialsFrom = '' } = credentials ?? {}
  const request = { reference, defaultScheme: plainHttp ? 'http' : '', username, secret, credentialsFrom }
  const { endpoints } = await clientOf(Registries, channel).explain(request, { signal })
  return endpoints
}
