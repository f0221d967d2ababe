/** The rules of leases: ids are free text, labels are free, resources have one of four types. */
import { randomBytes } from 'node:crypto'
import type { Lease, Resource } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { type Adaptor, fieldsOf } from '@gantry/model/filter'
import type { Held } from './attach.ts'

/** How many parts must follow the kind of a resource type. */
const PARTS: ReadonlyMap<string, number> = new Map([
  ['content', 0],
  ['images', 0],
  ['ingests', 0],
  ['snapshots', 1],
])

/** An id for a lease that came without one: nanoseconds within the second, and 24 random bits. */
export function randomLeaseId(): string {
  const nanos = process.hrtime.bigint() % 1_000_000_000n
  return `${nanos}-${randomBytes(3).toString('base64url')}`
}

/**
 * Checks type and id of a resource.
 *
 * @throws {Fault} `unimplemented` for a type nobody knows; `invalid-argument` for a type of the wrong form, an id that is
 *   empty or, for content, no digest
 */
export function parseResource(resource: Resource | undefined): Held {
  const { type = '', id = '' } = resource ?? {}
  const [kind = '', ...rest] = type.split('/')
  const parts = PARTS.get(kind)
  if (parts === undefined) throw new Fault('unimplemented', `Cannot lease ${JSON.stringify(type)}: unknown type`)
  if (rest.length !== parts) throw new Fault('invalid-argument', `Cannot lease ${JSON.stringify(type)}: malformed type`)
  if (kind === 'content') parseDigest(id)
  if (id === '') throw new Fault('invalid-argument', `Cannot lease ${JSON.stringify(type)}: its id is empty`)
  return { type, id }
}

/** What filters of leases may ask about. */
export function leaseFields({ id, labels }: Lease): Adaptor {
  return fieldsOf({ id, labels })
}
