import { type Digest, sha256Of } from './digest.ts'

/**
 * Names a stack of layers: the first layer's own diff ID, then the hash of the stack below and the diff ID on top.
 *
 * @param parent the chain ID below, `''` for the base layer
 * @see https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
 */
export function chainId(parent: Digest | '', diffId: Digest): Digest {
  return parent === '' ? diffId : sha256Of(`${parent} ${diffId}`)
}

/** The chain ID at each height, base first; the last one names the whole image. */
export function chainIds(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = []
  for (const diffId of diffIds) chain.push(chainId(chain.at(-1) ?? '', diffId))
  return chain
}
