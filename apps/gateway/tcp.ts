import { listenTls, type Served } from '@gantry/rpc/server'
import { readTls, type TlsFiles } from '@gantry/rpc/tls'
import { hostAndPort } from './config.ts'
import { reloading } from './reload.ts'

type Log = Served['log'] & Parameters<typeof reloading>[2]

/**
 * Serves the API on a port, with certificates that are read again when their files change. Connections that stand keep
 * those they were made with.
 *
 * @throws {Fault} `invalid-argument` for files that do not fit, `failed-precondition` for a port that cannot be had
 */
export async function serveTcp(
  { address, ...files }: TlsFiles & { readonly address: string },
  served: Served & { readonly log: Log },
): Promise<AsyncDisposable> {
  const server = await listenTls({ ...hostAndPort(address), keys: readTls(files), ...served })
  const load = (): void => server.renew(readTls(files))
  const watching = reloading([files.cert, files.key, files.client_ca], load, served.log)
  served.log.info({ address, port: server.port }, 'The API is served over TCP with mutual TLS')
  return {
    async [Symbol.asyncDispose]() {
      watching[Symbol.dispose]()
      await server[Symbol.asyncDispose]()
    },
  }
}
