import { hostPlatform } from '@gantry/model/platform'
import type { Plugin } from '@gantry/service/plugins'
import type { Driver } from './drivers/driver.ts'

/** What this process adds to the list of plugins. Clients read the capabilities of a snapshotter before they use it. */
export function pluginsOf(drivers: readonly Driver[]): Plugin[] {
  const { os, architecture, variant } = hostPlatform()
  const platforms = [{ os, architecture, variant: variant ?? '' }]
  return [
    ...drivers.map(({ name, exports, capabilities }) => ({
      type: 'io.containerd.snapshotter.v1',
      id: name,
      platforms,
      exports: { ...exports },
      capabilities: [...capabilities],
    })),
    { type: 'io.containerd.differ.v1', id: 'walking', platforms },
    { type: 'io.containerd.mount-manager.v1', id: 'bolt' },
    { type: 'io.containerd.service.v1', id: 'snapshots-service' },
    { type: 'io.containerd.service.v1', id: 'diff-service' },
    { type: 'io.containerd.grpc.v1', id: 'snapshots' },
    { type: 'io.containerd.grpc.v1', id: 'diff' },
    { type: 'io.containerd.grpc.v1', id: 'mounts' },
  ]
}
