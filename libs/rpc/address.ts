import { Fault } from '@gantry/model/fault'

/** Where a server is reached over TCP. */
export interface TcpAddress {
  readonly host: string
  readonly port: number
}

/**
 * `tcp://host:port`; undefined for any other address.
 *
 * @throws {Fault} `invalid-argument` for one that begins so and is malformed
 */
export function parseTcp(address: string): TcpAddress | undefined {
  if (!address.startsWith('tcp://')) return undefined
  const url = URL.canParse(address) ? new URL(address) : undefined
  const port = Number(url?.port)
  if (!url?.hostname || !(port > 0) || address !== `tcp://${url.host}`)
    throw new Fault('invalid-argument', `Cannot use address "${address}": write it as tcp://host:port`)
  return { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port }
}
