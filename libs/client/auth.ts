import { AuthRequestSchema, AuthResponseSchema, AuthType } from '@gantry/api/containerd/types/transfer/registry_pb'
import { pack } from './any.ts'
import type { Credentials } from './credentials.ts'
import { messagesOf, openStream, type Stream } from './stream.ts'
import type { Wire } from './wire.ts'

/** A stream over which the server asks for credentials while it moves an image. */
export interface Auth extends AsyncDisposable {
  /** Known once the server knows it; '' when there are no credentials to give. */
  readonly id: Promise<string>
  /** Never resolves: only a failure counts. */
  readonly failed: Promise<never>
}

/** Credentials, or how to find those of a host when the server asks for them; undefined says that there are none. */
export type Login = Credentials | ((host: string, signal: AbortSignal) => Promise<Credentials | undefined>)

export function openAuth(wire: Wire, credentials: Login | undefined, signal: AbortSignal): Auth {
  const never = new Promise<never>(() => undefined)
  if (!credentials) return { id: Promise.resolve(''), failed: never, [Symbol.asyncDispose]: async () => undefined }
  const opened = openStream(wire, 'creds', signal)
  const failed = opened.then((stream) => answer(stream, credentials, signal)).then(() => never)
  failed.catch(() => undefined) // whoever waits for the transfer sees it
  return {
    id: opened.then((stream) => stream.id),
    failed,
    async [Symbol.asyncDispose]() {
      const stream = await opened.catch(() => undefined)
      await stream?.[Symbol.asyncDispose]()
    },
  }
}

/** One answer a question, as the protocol has it. The server asks for the host of the image only. */
async function answer(stream: Stream, login: Login, signal: AbortSignal): Promise<void> {
  for await (const { host } of messagesOf(stream, AuthRequestSchema)) {
    const found = typeof login === 'function' ? await login(host, signal) : login
    const { username, secret } = found ?? { username: '', secret: '' } // an empty token: nothing to give
    const authType = username === '' ? AuthType.REFRESH : AuthType.CREDENTIALS
    stream.send(pack(AuthResponseSchema, { authType, username, secret }))
  }
}
