import { create, toBinary } from '@bufbuild/protobuf'
import { type Version, VersionResponseSchema } from '@gantry/api/containerd/services/version/v1/version_pb'
import { encoded } from '@gantry/rpc/message'
import type { Implementation } from '@gantry/rpc/service'

/**
 * The API level that clients read first. From 2.0.0 on they bring, send, load and save images through the Transfer
 * service, which is complete here (docs/adr/0004-report-the-api-level.md).
 */
const VERSION = '2.0.0+gantry.0.1.0'

/** containerd.services.version.v1.Version. */
export function versionService(): Implementation<typeof Version> {
  const answer = toBinary(
    VersionResponseSchema,
    create(VersionResponseSchema, { version: VERSION, revision: 'gantry' }),
  )
  return { version: async () => encoded(VersionResponseSchema, answer) }
}
