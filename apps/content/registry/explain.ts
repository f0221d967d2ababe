import { Fault } from '@gantry/model/fault'
import { describe, MANIFEST_TYPES } from './describe.ts'
import { apiUrlOf, ownerOf, urlOf } from './endpoint.ts'
import type { Hosts } from './hosts.ts'
import type { Capability } from './hosts-file.ts'
import { refusal, type Sender } from './sender.ts'
import { errandFor, type Site, type Source } from './site.ts'
import type { Wallet } from './wallet.ts'

/** What one endpoint says. */
export interface Explained {
  readonly url: string
  readonly from: string
  readonly capabilities: readonly Capability[]
  /** Where the credentials are from; `''` when it wanted none. */
  readonly credentials: string
  /** In one line. */
  readonly answer: string
  readonly works: boolean
}

export interface ExplainParts {
  readonly hosts: Hosts
  readonly wallet: Wallet
  readonly sender: Sender
}

/**
 * Asks all endpoints for what a source names, also those behind one that has it. A reference without a path means the
 * host: then it is asked whether it lets us in.
 *
 * @throws {Fault} `failed-precondition` naming a file about hosts that cannot be used
 */
export async function explain(parts: ExplainParts, source: Source, signal: AbortSignal): Promise<Explained[]> {
  const { reference, defaultScheme, hostDir = '' } = source
  const endpoints = await parts.hosts({ host: reference.host, defaultScheme, hostDir })
  const wallet = source.wallet ?? parts.wallet
  return await Promise.all(
    endpoints.map(async (endpoint) => {
      const site: Site = { endpoint, source, wallet, last: false }
      const asked = errandOf(site)
      const { answer, works } = await ask(parts.sender, site, signal)
      const found = wallet.known(ownerOf(endpoint))
      const credentials = found === undefined ? '' : found === 'none' ? 'none' : found.from
      return {
        url: asked.url.href,
        from: endpoint.from,
        capabilities: endpoint.capabilities,
        credentials,
        answer,
        works,
      }
    }),
  )
}

function errandOf(site: Site) {
  const { path, text, digest, tag } = site.source.reference
  if (path === '')
    return errandFor(site, {
      ...{ method: 'GET', url: apiUrlOf(site.endpoint, '/'), what: `log in to ${text}`, headers: {}, scopes: [] },
    })
  const url = urlOf(site.endpoint, site.source.reference, 'manifests', digest ?? tag ?? 'latest')
  return errandFor(site, { method: 'HEAD', url, what: `resolve ${text}`, headers: { accept: MANIFEST_TYPES } })
}

async function ask(sender: Sender, site: Site, signal: AbortSignal): Promise<{ answer: string; works: boolean }> {
  const { reference } = site.source
  const needed: Capability[] = reference.digest || reference.path === '' ? ['pull'] : ['pull', 'resolve']
  const missing = needed.filter((capability) => !site.endpoint.capabilities.includes(capability))
  if (missing.length > 0) return { answer: `not asked: it is not there to ${missing.join(' and ')}`, works: false }
  const errand = errandOf(site)
  try {
    await using answer = await sender.send(errand, signal)
    if (answer.status === 404) return { answer: '404: not found', works: false }
    if (answer.status !== 200) return { answer: (await refusal(errand, answer)).message, works: false }
    const found = reference.path === '' ? undefined : describe(reference, answer)
    return { answer: found ? `200: ${found.mediaType} ${found.digest}` : '200', works: true }
  } catch (error) {
    if (signal.aborted || !(error instanceof Fault)) throw error
    return { answer: error.message, works: false }
  }
}
