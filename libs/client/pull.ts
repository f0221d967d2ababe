import { setTimeout } from 'node:timers/promises'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import {
  AuthRequestSchema,
  AuthResponseSchema,
  AuthType,
  OCIRegistrySchema,
} from '@gantry/api/containerd/types/transfer/registry_pb'
import { hostPlatform, parsePlatform } from '@gantry/model/platform'
import { parseReference } from '@gantry/model/reference'
import { pack } from './any.ts'
import type { Progress, PullOptions } from './images.ts'
import { messagesOf, openStream, type Stream } from './stream.ts'
import type { Wire } from './wire.ts'

/** How long the last progress lines may take after the transfer has ended, in ms: nothing marks the last one. */
const LAST_PROGRESS_MS = 200

/**
 * Asks the server to pull an image, unpack it and store its name. Progress comes over a stream of its own, which is open
 * before the transfer names it.
 *
 * @throws {Fault} `invalid-argument` for a reference that is not complete; else what the transfer failed with
 */
export async function pull(
  wire: Wire,
  request: { readonly reference: string; readonly options: PullOptions },
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  const { reference, options } = request
  parseReference(reference)
  await using progress = await openStream(wire, 'progress', signal)
  await using auth = options.credentials ? await openStream(wire, 'creds', signal) : undefined
  const reported = report(progress, onProgress)
  const answered = auth && options.credentials ? answerAuth(auth, options.credentials) : Promise.resolve()
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform)
  const wirePlatform = { os: platform.os, architecture: platform.architecture, variant: platform.variant ?? '' }
  await Promise.race([
    wire.services.transfer.transfer(
      {
        source: pack(OCIRegistrySchema, {
          reference,
          resolver: { defaultScheme: options.plainHttp ? 'http' : '', authStream: auth?.id ?? '' },
        }),
        destination: pack(ImageStoreSchema, {
          name: reference,
          platforms: [wirePlatform],
          unpacks:
            options.unpack === false
              ? []
              : [{ platform: wirePlatform, snapshotter: options.snapshotter ?? wire.snapshotter }],
        }),
        options: { progressStream: progress.id },
      },
      wire.call(signal),
    ),
    failureOf(answered),
  ])
  await Promise.race([reported, setTimeout(LAST_PROGRESS_MS)])
}

/** Reports until the stream ends. That it breaks says nothing about the transfer, which answers for itself. */
async function report(stream: Stream, onProgress: (progress: Progress) => void): Promise<void> {
  const messages = messagesOf(stream, ProgressSchema)[Symbol.asyncIterator]()
  for (;;) {
    const next = await messages.next().catch(() => undefined)
    if (!next || next.done) return
    const { event, name, parents, progress, total } = next.value
    onProgress({ event, name, parents, progress, total })
  }
}

/** Gives the same credentials to whoever asks: the server asks only for the host the image comes from. */
async function answerAuth(stream: Stream, credentials: { username: string; secret: string }): Promise<void> {
  for await (const _ of messagesOf(stream, AuthRequestSchema))
    stream.send(pack(AuthResponseSchema, { authType: AuthType.CREDENTIALS, ...credentials }))
}

/** Never resolves: only a failure counts. */
async function failureOf(promise: Promise<void>): Promise<never> {
  return promise.then(() => new Promise<never>(() => undefined))
}
