import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import {
  AuthRequestSchema,
  type AuthResponse,
  AuthResponseSchema,
  AuthType,
  type OCIRegistry,
} from '@gantry/api/containerd/types/transfer/registry_pb'
import type { Found } from '@gantry/client/credentials'
import { Fault } from '@gantry/model/fault'
import { parseReference } from '@gantry/model/reference'
import { typeNameOf } from '../streaming/streaming-service.ts'
import type { Stream } from '../streaming/streams.ts'
import type { Source } from './site.ts'
import { createClientWallet, type FindCredentials, NO_CREDENTIALS, type Wallet } from './wallet.ts'

const MAX_SKIPPED = 64 // messages of other types, which the protocol lets pass
const ANSWER_MS = 120_000 // a client may have to ask its user

/** Who makes a transfer: `free`, or kept to namespaces by a policy, which may lend it the node's own credentials. */
export type Caller = 'free' | 'restricted' | 'lent'

/**
 * Reads what a transfer says about a registry. Its credentials come over the stream that the transfer names.
 *
 * @param open finds that stream
 * @param service what the node itself has
 * @throws {Fault} `invalid-argument` for a malformed reference, `permission-denied` for a folder of the node where a
 * policy restricts the client, else as `open`
 */
export function sourceOf(
  { reference, resolver }: OCIRegistry,
  open: (id: string) => Stream,
  { service, caller }: { readonly service: Wallet; readonly caller: Caller },
): Source {
  const parsed = parseReference(reference)
  const { authStream: id = '', hostDir = '' } = resolver ?? {}
  if (hostDir !== '' && caller !== 'free')
    throw new Fault(
      'permission-denied',
      "Cannot use the host_dir of the request: the policy keeps this client from the node's folders; leave it out, then those of the node's configuration count",
    )
  const asStranger = caller === 'restricted'
  const wallet = asStranger ? NO_CREDENTIALS : service
  return {
    ...{ reference: parsed, hostDir, asStranger },
    defaultScheme: resolver?.defaultScheme ?? '',
    headers: resolver?.headers ?? {},
    wallet: id === '' ? wallet : createClientWallet(askOver(open(id), reference), wallet),
  }
}

/** Asks the client: one question, one answer, then the next one (behaviour facts, 15.2). */
function askOver(stream: Stream, reference: string): FindCredentials {
  let before: Promise<unknown> = Promise.resolve()
  const askNow = async (host: string, signal: AbortSignal): Promise<Found | undefined> => {
    const request = create(AuthRequestSchema, { host, reference })
    await stream.send({ typeUrl: AuthRequestSchema.typeName, value: toBinary(AuthRequestSchema, request) })
    return toFound(await nextAnswer(stream, AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)])))
  }
  return (host, signal) => {
    const answer = before.then(() => askNow(host, signal))
    before = answer.catch(() => undefined)
    return answer
  }
}

async function nextAnswer(stream: Stream, signal: AbortSignal): Promise<AuthResponse> {
  const gone = new Fault('unauthenticated', 'Cannot get credentials: the client does not answer on its stream')
  const late = Promise.withResolvers<IteratorResult<Any>>()
  const abort = (): void => late.reject(gone)
  signal.addEventListener('abort', abort, { once: true })
  late.promise.catch(() => undefined)
  if (signal.aborted) abort()
  try {
    for (let skipped = 0; skipped <= MAX_SKIPPED; skipped++) {
      const next = await Promise.race([stream.received.next(), late.promise])
      if (next.done) throw gone
      if (typeNameOf(next.value.typeUrl) === AuthResponseSchema.typeName) return parseAnswer(next.value.value)
    }
    throw gone
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

function parseAnswer(bytes: Uint8Array): AuthResponse {
  try {
    return fromBinary(AuthResponseSchema, bytes)
  } catch {
    throw new Fault('invalid-argument', 'Cannot read the credentials of the client: they are malformed')
  }
}

/** An empty token is how clients say that they have nothing. */
function toFound({ authType, username, secret }: AuthResponse): Found | undefined {
  const from = 'the client'
  if (secret === '') return undefined
  if (authType === AuthType.CREDENTIALS) return { username, secret, from }
  return authType === AuthType.REFRESH ? { username: '', secret, from } : undefined
}
