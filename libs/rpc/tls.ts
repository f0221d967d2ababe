import { constants } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import { Fault } from '@gantry/model/fault'

const HANDSHAKE_MS = 10_000

/** Absolute paths of the PEM files of a server that wants certificates of its clients. */
export interface TlsFiles {
  readonly cert: string
  readonly key: string
  /** Who signs the certificates of clients. */
  readonly client_ca: string
}

/** Certificates and a private key, as PEM. Of a server `ca` signs its clients, of a client it signs the server. */
export interface TlsKeys {
  readonly cert: Buffer
  readonly key: Buffer
  readonly ca: Buffer
}

/** How a server is made that nobody without a good certificate reaches further than the handshake. */
export const MUTUAL_TLS = {
  minVersion: 'TLSv1.2',
  requestCert: true,
  rejectUnauthorized: true,
  ALPNProtocols: ['h2'],
  handshakeTimeout: HANDSHAKE_MS,
  // a session that is taken up again would bring a certificate past a list of signers that has changed meanwhile
  secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
} as const

/**
 * Reads the files and checks that they fit together.
 *
 * @throws {Fault} `invalid-argument` that names the file, or says what does not fit
 */
export function readTls(files: TlsFiles): TlsKeys {
  return readKeys({ cert: files.cert, key: files.key, ca: files.client_ca })
}

/** @throws {Fault} as `readTls` */
export function readKeys(files: { readonly cert: string; readonly key: string; readonly ca: string }): TlsKeys {
  const keys = { cert: read(files.cert), key: read(files.key), ca: read(files.ca) }
  for (const what of ['cert', 'ca'] as const)
    if (!keys[what].includes('-----BEGIN CERTIFICATE-----'))
      throw new Fault('invalid-argument', `Cannot use ${files[what]}: there is no PEM certificate in it`)
  try {
    createSecureContext(keys)
  } catch (error) {
    const text = `Cannot use ${files.cert} with ${files.key}: ${reasonOf(error)}`
    throw new Fault('invalid-argument', text, { cause: error })
  }
  return keys
}

function read(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new Fault('invalid-argument', `Cannot read ${file}: ${reasonOf(error)}`, { cause: error })
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if ('code' in error && error.code === 'ENOENT') return 'there is no such file'
  return error.message
}
