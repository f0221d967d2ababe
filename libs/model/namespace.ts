import { parseIdentifier } from './identifier.ts'

/** A tenant of the API: every name but those of namespaces themselves lives in one. */
export type Namespace = string & { readonly __brand: 'Namespace' }

/** @throws {Fault} `invalid-argument` when the name breaks the identifier rule */
export function parseNamespace(text: string): Namespace {
  return parseIdentifier(text, 'namespace') as Namespace
}
