import { X509Certificate } from 'node:crypto'
import { connect } from 'node:tls'
import { Fault, type FaultCode } from '@gantry/model/fault'
import type { TcpAddress } from './address.ts'
import type { TlsKeys } from './tls.ts'

const ANSWER_MS = 3000

/**
 * Shakes hands once, as a client of gRPC will, and says in plain words why that fails: its own library only says that it
 * cannot connect. A server speaks first, with its settings; only then is our certificate known to be accepted.
 *
 * @throws {Fault} `unavailable` when nobody answers, `unauthenticated` when either side does not trust the other
 */
export function checkPeer({ host, port }: TcpAddress, keys: TlsKeys): Promise<void> {
  checkOwn(keys.cert)
  return new Promise((resolve, reject) => {
    let secure = false
    const socket = connect({ host, port, ...keys, ALPNProtocols: ['h2'], minVersion: 'TLSv1.2' })
    const fail = (error: unknown): void => {
      socket.destroy()
      reject(toFault(`tcp://${host}:${port}`, error, secure))
    }
    socket.setTimeout(ANSWER_MS, () => fail(new Error('it does not answer')))
    socket.once('secureConnect', () => {
      secure = true
    })
    socket.once('data', () => {
      socket.destroy()
      resolve()
    })
    socket.once('error', fail)
    socket.once('close', () => fail(new Error('it closed the connection')))
  })
}

function checkOwn(cert: Buffer): void {
  const { validFromDate, validToDate, subject } = new X509Certificate(cert)
  const name = subject.replaceAll('\n', ', ')
  if (validToDate.getTime() <= Date.now())
    throw new Fault('unauthenticated', `The client certificate (${name}) expired on ${validToDate.toISOString()}`)
  if (validFromDate.getTime() > Date.now())
    throw new Fault(
      'unauthenticated',
      `The client certificate (${name}) is not valid before ${validFromDate.toISOString()}`,
    )
}

const UNTRUSTED = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_GET_ISSUER_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_SIGNATURE_FAILURE',
])

function toFault(address: string, error: unknown, secure: boolean): Fault {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const text = error instanceof Error ? error.message : String(error)
  const [kind, why]: [FaultCode, string] = UNTRUSTED.has(code)
    ? ['unauthenticated', 'its certificate is not signed by the CA that you gave']
    : code === 'CERT_HAS_EXPIRED'
      ? ['unauthenticated', 'its certificate has expired']
      : code === 'ERR_TLS_CERT_ALTNAME_INVALID'
        ? ['unauthenticated', `its certificate is for another host (${text})`]
        : secure || code.startsWith('ERR_SSL_')
          ? [
              'unauthenticated',
              `it does not accept the client certificate: is it signed by a CA of its client_ca? (${text})`,
            ]
          : ['unavailable', text]
  return new Fault(kind, `Cannot reach "${address}": ${why}`, { cause: error })
}
