import type { Version } from '@gantry/api/containerd/services/version/v1/version_pb'
import type { Implementation } from '@gantry/rpc/service'

/**
 * The API level that clients read first. Clients take 2.0.0 and above as a promise that every image command goes
 * through the Transfer service, so this stays below until it does (docs/adr/0004-report-the-api-level.md).
 */
const VERSION = '1.7.0+gantry.0.1.0'

/** containerd.services.version.v1.Version. */
export function versionService(): Implementation<typeof Version> {
  return { version: async () => ({ version: VERSION, revision: 'gantry' }) }
}
