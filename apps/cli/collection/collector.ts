import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Collector, type Thing } from '@gantry/api/gantry/collection/v1/collection_pb'
import { Fault } from '@gantry/model/fault'
import { type Client, clientOf, connect } from '@gantry/rpc/client'
import type { Session } from '../session.ts'

export interface OpenCollector extends AsyncDisposable {
  readonly collector: Client<typeof Collector>
}

/**
 * The collector of the node: `metadata.sock` beside the socket of the node, for the gateway does not route what is ours.
 *
 * @throws {Fault} `unavailable` when there is no such socket: the node does not run, or is not Gantry
 */
export function openCollector({ address }: Pick<Session, 'address'>): OpenCollector {
  const channel = connect(ownerSocket(address, 'metadata'))
  return { collector: clientOf(Collector, channel), [Symbol.asyncDispose]: () => channel[Symbol.asyncDispose]() }
}

/** The socket of an owner, beside that of the node. @throws {Fault} `unavailable` */
export function ownerSocket(address: string, owner: string): string {
  const socket = join(dirname(address), `${owner}.sock`)
  if (!existsSync(socket)) throw new Fault('unavailable', `Cannot reach "${socket}": there is no such socket`)
  return socket
}

const KINDS: Readonly<Record<string, string>> = {
  images: 'image',
  containers: 'container',
  leases: 'lease',
  sandboxes: 'sandbox',
  content: 'blob',
  ingests: 'upload',
  namespaces: 'namespace',
}

/** What a person calls the kind of a thing. */
export function kindOf(thing: Thing | undefined): string {
  const kind = thing?.kind ?? ''
  return kind.startsWith('snapshots/') ? `${kind.slice('snapshots/'.length)} snapshot` : (KINDS[kind] ?? kind)
}
