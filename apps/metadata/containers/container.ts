/**
 * The rules of a container record. Image, snapshotter and snapshot are names only: nothing says that they exist.
 */
import type { Timestamp } from '@bufbuild/protobuf/wkt'
import type { Container } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Fault } from '@gantry/model/fault'
import { type Adaptor, fieldsOf } from '@gantry/model/filter'
import { parseIdentifier } from '@gantry/model/identifier'
import { checkLabels, withoutEmpty } from '@gantry/model/labels'
import { type MaskPath, parseMask, updateMap } from '@gantry/model/mask'

const FIELDS = ['labels', 'spec', 'extensions', 'image', 'snapshotkey']
const ACCEPTED = { plain: FIELDS, maps: ['labels', 'extensions'] }

/**
 * The record that is stored for what a caller sent; times are ours.
 *
 * @throws {Fault} `invalid-argument` for a bad id, a missing runtime or spec, a snapshot without snapshotter, a nameless
 *   extension, or labels that are too large
 */
export function newContainer(wanted: Container, now: Timestamp): Container {
  return stored({ ...wanted, createdAt: now, updatedAt: now })
}

/**
 * The record after an update of the fields in `mask`; with no mask of all that may change at all.
 *
 * @throws {Fault} `invalid-argument` for an unknown path, for another snapshotter or runtime, or when the result breaks a rule
 */
export function updatedContainer(
  current: Container,
  next: Container,
  mask: readonly string[],
  now: Timestamp,
): Container {
  if (mask.length === 0) checkUnchanged(current, next)
  const paths = parseMask(mask.length === 0 ? FIELDS : mask, ACCEPTED)
  const changed = paths.reduce((container, path) => withPath(container, next, path), current)
  return stored({ ...changed, updatedAt: now })
}

/** What filters of containers may ask about. */
export function containerFields({ id, runtime, image, labels }: Container): Adaptor {
  return fieldsOf({ id, runtime: { name: runtime?.name ?? '' }, image, labels })
}

function checkUnchanged(current: Container, next: Container): void {
  if (next.snapshotter !== current.snapshotter) throw refuse(current, 'its snapshotter cannot change')
  if (next.runtime?.name !== current.runtime?.name) throw refuse(current, 'its runtime cannot change')
}

function withPath(container: Container, next: Container, path: MaskPath): Container {
  switch (path.field) {
    case 'labels':
      return { ...container, labels: updateMap(container.labels, next.labels, path) }
    case 'extensions':
      return { ...container, extensions: updateMap(container.extensions, next.extensions, path) }
    case 'spec': {
      const { spec: _, ...rest } = container
      return next.spec ? { ...rest, spec: next.spec } : rest
    }
    case 'image':
      return { ...container, image: next.image }
    default:
      return { ...container, snapshotKey: next.snapshotKey }
  }
}

function stored(container: Container): Container {
  const { id, runtime, spec, snapshotKey, snapshotter, labels, extensions } = container
  parseIdentifier(id, 'container id')
  if (Object.hasOwn(extensions, '')) throw refuse(container, 'an extension has no name')
  checkLabels(labels)
  if (!runtime?.name) throw refuse(container, 'it has no runtime')
  if (!spec) throw refuse(container, 'it has no spec')
  if (snapshotKey !== '' && snapshotter === '') throw refuse(container, 'its snapshot has no snapshotter')
  return { ...container, labels: withoutEmpty(labels) }
}

function refuse({ id }: Container, why: string): Fault {
  return new Fault('invalid-argument', `Cannot store container ${JSON.stringify(id)}: ${why}`)
}
