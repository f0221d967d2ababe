/** The rules of a sandbox record: what runs it is a name only, nothing says that it exists. */
import type { Timestamp } from '@bufbuild/protobuf/wkt'
import type { Sandbox } from '@gantry/api/containerd/types/sandbox_pb'
import { Fault } from '@gantry/model/fault'
import { type Adaptor, fieldsOf } from '@gantry/model/filter'
import { parseIdentifier } from '@gantry/model/identifier'
import { withoutEmpty } from '@gantry/model/labels'
import { type MaskPath, parseMask, updateMap } from '@gantry/model/mask'

const FIELDS = ['labels', 'extensions', 'spec', 'runtime']
const ACCEPTED = { plain: FIELDS, maps: ['labels', 'extensions'] }

/** The record that is stored for what a caller sent; times are ours. @throws {Fault} `invalid-argument` for a bad id */
export function newSandbox(wanted: Sandbox, now: Timestamp): Sandbox {
  parseIdentifier(wanted.sandboxId, 'sandbox id')
  return { ...wanted, labels: withoutEmpty(wanted.labels), createdAt: now, updatedAt: now }
}

/**
 * The record after an update of the fields in `mask`; with no mask of all that may change.
 *
 * @throws {Fault} `invalid-argument` for an unknown path, or another runtime
 */
export function updatedSandbox(current: Sandbox, next: Sandbox, mask: readonly string[], now: Timestamp): Sandbox {
  const paths = parseMask(mask.length === 0 ? FIELDS : mask, ACCEPTED)
  if (mask.length === 0 && next.runtime?.name !== current.runtime?.name)
    throw new Fault(
      'invalid-argument',
      `Cannot update sandbox ${JSON.stringify(current.sandboxId)}: its runtime cannot change`,
    )
  const changed = paths.reduce((sandbox, path) => withPath(sandbox, next, path), current)
  return { ...changed, labels: withoutEmpty(changed.labels), updatedAt: now }
}

/** What filters of sandboxes may ask about. */
export function sandboxFields({ sandboxId, labels }: Sandbox): Adaptor {
  return fieldsOf({ id: sandboxId, labels })
}

function withPath(sandbox: Sandbox, next: Sandbox, path: MaskPath): Sandbox {
  switch (path.field) {
    case 'labels':
      return { ...sandbox, labels: updateMap(sandbox.labels, next.labels, path) }
    case 'extensions':
      return { ...sandbox, extensions: updateMap(sandbox.extensions, next.extensions, path) }
    case 'spec': {
      const { spec: _, ...rest } = sandbox
      return next.spec ? { ...rest, spec: next.spec } : rest
    }
    default: {
      const { runtime: _, ...rest } = sandbox
      return next.runtime ? { ...rest, runtime: next.runtime } : rest
    }
  }
}
