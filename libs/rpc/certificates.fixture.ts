/** Certificates for tests, made by openssl: an authority, and what it signs. */
import { execFile } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { TlsFiles } from './tls.ts'

const run = promisify(execFile)
const DAY = ['-days', '1']

/** What a certificate says. */
export interface Subject {
  readonly cn: string
  /** Such as `URI:spiffe://example/ci` or `IP:127.0.0.1`. */
  readonly names?: readonly string[]
  /** It ran out a day before it was made. */
  readonly expired?: boolean
}

export interface Authority extends AsyncDisposable {
  readonly folder: string
  readonly ca: string
  /** Makes `<name>.crt` and `<name>.key`, signed by this authority; made again they are replaced. */
  sign(name: string, subject: Subject): Promise<{ readonly cert: string; readonly key: string }>
  /** Files of a server on 127.0.0.1 that wants certificates of this authority. */
  server(): Promise<TlsFiles>
}

export async function createAuthority(): Promise<Authority> {
  const folder = await mkdtemp(join(tmpdir(), 'gantry-ca-'))
  const openssl = (args: readonly string[]) => run('openssl', args, { cwd: folder })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  await openssl(['req', '-x509', ...key, ...DAY, '-subj', '/CN=test authority', '-keyout', 'ca.key', '-out', 'ca.crt'])
  const authority: Authority = {
    folder,
    ca: join(folder, 'ca.crt'),
    async sign(name, { cn, names = [], expired = false }) {
      const extensions = names.length > 0 ? `subjectAltName=${names.join(',')}\n` : 'basicConstraints=CA:FALSE\n'
      await writeFile(join(folder, `${name}.ext`), extensions)
      const made = ['-keyout', `${name}.key.new`, '-out', `${name}.csr`]
      await openssl(['req', ...key, '-subj', `/CN=${cn}`, ...made])
      const days = expired ? ['-days', '-1'] : DAY
      const from = [
        '-in',
        `${name}.csr`,
        '-CA',
        'ca.crt',
        '-CAkey',
        'ca.key',
        '-set_serial',
        String(randomInt(2 ** 40)),
      ]
      await openssl(['x509', '-req', ...from, ...days, '-extfile', `${name}.ext`, '-out', `${name}.crt`])
      await run('mv', [`${name}.key.new`, `${name}.key`], { cwd: folder })
      return { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) }
    },
    server: async () => ({
      ...(await authority.sign('server', { cn: 'node', names: ['IP:127.0.0.1'] })),
      client_ca: authority.ca,
    }),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  }
  return authority
}
