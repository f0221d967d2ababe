import type { Registries } from '@gantry/api/gantry/content/v1/registries_pb'
import { Fault } from '@gantry/model/fault'
import { parseReference } from '@gantry/model/reference'
import type { Implementation } from '@gantry/rpc/service'
import type { Registry } from './registry/registry.ts'
import { createClientWallet, type Wallet } from './registry/wallet.ts'

/** gantry.content.v1.Registries: what a pull would do, without doing it. */
export function registriesService(parts: {
  readonly registry: Pick<Registry, 'explain'>
  readonly wallet: Wallet
}): Implementation<typeof Registries> {
  return {
    async explain({ reference, defaultScheme, hostDir, username, secret, credentialsFrom }, { signal }) {
      const found = secret === '' ? undefined : { username, secret, from: credentialsFrom || 'the client' }
      const source = {
        ...{ reference: referenceOf(reference), defaultScheme, hostDir, headers: {} },
        wallet: createClientWallet(async () => found, parts.wallet),
      }
      const endpoints = await parts.registry.explain(source, signal)
      return { endpoints: endpoints.map((endpoint) => ({ ...endpoint, capabilities: [...endpoint.capabilities] })) }
    },
  }
}

/** A host alone is one whose images have no name. */
function referenceOf(text: string) {
  if (text === '') throw new Fault('invalid-argument', 'Cannot explain nothing: name a reference or a host')
  if (text.includes('/')) return parseReference(text)
  const { host } = parseReference(`${text}/any`)
  return { host, path: '', text: host }
}
