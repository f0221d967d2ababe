import { isFault } from '@gantry/model/fault'
import { parseReference, type Reference } from '@gantry/model/reference'

/** A reference as people say it: without Docker Hub's name. `docker.io/library/busybox:1` is busybox, 1. */
export function familiarName(name: string): { readonly repository: string; readonly tag: string } {
  const reference = parse(name)
  if (!reference) return { repository: name, tag: '<none>' }
  const { host, path, tag = '<none>' } = reference
  if (host !== 'docker.io') return { repository: `${host}/${path}`, tag }
  return { repository: path.replace(/^library\/(?=[^/]+$)/, ''), tag }
}

/** An image may have any name: not all are references. */
function parse(name: string): Reference | undefined {
  try {
    return parseReference(name)
  } catch (error) {
    if (isFault(error, 'invalid-argument')) return undefined
    throw error
  }
}
