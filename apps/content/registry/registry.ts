import type { Descriptor } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import type { Reference } from '@gantry/model/reference'
import type { Piece } from './answer.ts'
import type { Courier } from './courier.ts'
import { describe, describeBody, MANIFEST_TYPES } from './describe.ts'
import { urlOf } from './endpoint.ts'
import { type Explained, explain } from './explain.ts'
import { type FetchWatch, fetchFrom, HAND_OVER, takenBy } from './fetch.ts'
import { createHosts, type Hosts } from './hosts.ts'
import type { Ahead, Range } from './parts.ts'
import { createPusher, type Pusher } from './push.ts'
import { fetchReferrers } from './referrers.ts'
import { createSender, refusal, type Sender } from './sender.ts'
import { errandFor, firstOf, type Site, type Source, sitesOf } from './site.ts'
import type { Transport } from './transport.ts'
import { createServiceWallet, type Wallet } from './wallet.ts'

export type { Source } from './site.ts'

/** Reads from registries and writes to them: mirrors first, as the files about hosts say. */
export interface Registry {
  /**
   * What the tag or digest of the reference names now.
   *
   * @throws {Fault} `not-found`, `unavailable` naming host and cause, `unauthenticated`, `permission-denied`,
   * `failed-precondition` when the answer makes no sense, `invalid-argument` for a schema 1 manifest or no tag
   * @see behaviour facts, 17.3
   */
  resolve(source: Source, signal: AbortSignal): Promise<Descriptor>
  /**
   * The bytes of a manifest or blob from `range` on (to its end when that is a number), never more than the descriptor
   * says. A connection that breaks is taken up again where it broke. The bytes are not proven: whoever stores them checks
   * the digest. A piece is good until the next one is asked for: its memory is used again.
   *
   * @throws {Fault} as `resolve`; `unimplemented` when a part is wanted and the registry does not send parts
   */
  fetch(source: Source, descriptor: Descriptor, range: bigint | Range, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** The same, but a courier takes the bytes: how many have come without a gap. @throws {Fault} as `fetch` */
  save(
    source: Source,
    descriptor: Descriptor,
    to: { readonly from: bigint; readonly courier: Courier; readonly ahead: Ahead | undefined },
    signal: AbortSignal,
  ): AsyncIterable<Piece>
  /**
   * What refers to a manifest, such as its signatures: of one artifact type, or all when that is `''`.
   *
   * @throws {Fault} as `resolve`, but nothing there is an empty list
   * @see behaviour facts, 17.7
   */
  referrers(
    source: Source,
    of: { readonly digest: Descriptor['digest']; readonly artifactType: string },
    signal: AbortSignal,
  ): Promise<Descriptor[]>
  /** What each endpoint says about a source. A pull asks the later ones only when the earlier ones fail. */
  explain(source: Source, signal: AbortSignal): Promise<Explained[]>
  readonly push: Pusher
}

export interface RegistryParts {
  readonly transport: Transport
  readonly now: () => number
  readonly stallMs: number
  readonly backoffMs: number
  /** Where hosts are found; each at its own name unless told. */
  readonly hosts?: Hosts
  /** What the service itself has; nothing unless told. */
  readonly wallet?: Wallet
  readonly watch?: FetchWatch
}

export function createRegistry(given: RegistryParts): Registry {
  const parts = {
    ...{ hosts: createHosts(''), wallet: createServiceWallet(async () => undefined, given.now), ...given },
    sender: createSender(given),
  }
  return {
    async resolve(source, signal) {
      const { text, digest, tag } = source.reference
      const object = digest ?? tag
      if (object === undefined) throw new Fault('invalid-argument', `Cannot resolve ${text}: no tag or digest`)
      const sites = await sitesOf(parts, source, digest ? ['pull'] : ['pull', 'resolve'])
      return await firstOf(sites, (site) => resolveAt(parts.sender, { site, object }, signal), signal)
    },
    async *fetch(source, descriptor, range, signal) {
      const sites = await sitesOf(parts, source, ['pull'])
      const wanted = typeof range === 'bigint' ? { from: range, to: descriptor.size } : range
      yield* fetchFrom({ ...parts, taking: HAND_OVER }, { sites, descriptor, range: wanted }, signal)
    },
    async *save(source, descriptor, { from, courier, ahead }, signal) {
      const sites = await sitesOf(parts, source, ['pull'])
      const range = { from, to: descriptor.size }
      yield* fetchFrom({ ...parts, taking: takenBy(courier, ahead) }, { sites, descriptor, range }, signal)
    },
    async referrers(source, of, signal) {
      const sites = await sitesOf(parts, source, ['referrers'])
      return await firstOf(sites, (site) => fetchReferrers(parts.sender, { site, ...of }, signal), signal)
    },
    explain: async (source, signal) => await explain(parts, source, signal),
    push: createPusher(parts),
  }
}

/** HEAD, and GET where that does not tell enough or is refused: the body of a refusal says why. */
async function resolveAt(
  sender: Sender,
  { site, object }: { site: Site; object: string },
  signal: AbortSignal,
): Promise<Descriptor> {
  const { reference } = site.source
  const errand = errandFor(site, {
    method: 'HEAD',
    url: urlOf(site.endpoint, reference, 'manifests', object),
    what: `resolve ${reference.text}`,
    headers: { accept: MANIFEST_TYPES },
  })
  {
    await using head = await sender.send(errand, signal)
    if (head.status === 404) throw notFound(reference)
    const descriptor = head.status === 200 ? describe(reference, head) : undefined
    if (descriptor) return descriptor
  }
  await using answer = await sender.send({ ...errand, method: 'GET' }, signal)
  if (answer.status === 404) throw notFound(reference)
  if (answer.status !== 200) throw await refusal(errand, answer)
  return await describeBody(reference, answer)
}

function notFound({ text }: Reference): Fault {
  return new Fault('not-found', `${text}: not found`)
}
