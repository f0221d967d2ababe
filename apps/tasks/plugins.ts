import { hostPlatform } from '@gantry/model/platform'
import { RESTART_POLICIES } from '@gantry/model/restart'
import type { Plugin } from '@gantry/service/plugins'
import { LOG_URI_SCHEMES } from './runtime/stdio.ts'

/** What this process says of its parts; buildkitd takes its platforms from the runtime's. */
export function tasksPlugins(): Plugin[] {
  const { os, architecture, variant = '' } = hostPlatform()
  return [
    {
      type: 'io.containerd.runtime.v2',
      id: 'task',
      platforms: [{ os, architecture, variant }],
      exports: { 'log-uri-schemes': LOG_URI_SCHEMES.join(',') },
    },
    { type: 'io.containerd.monitor.container.v1', id: 'restart', capabilities: [...RESTART_POLICIES] },
    { type: 'io.containerd.sandbox.controller.v1', id: 'shim' },
    { type: 'io.containerd.service.v1', id: 'tasks-service' },
    { type: 'io.containerd.grpc.v1', id: 'tasks' },
    { type: 'io.containerd.grpc.v1', id: 'sandbox-controllers' },
  ]
}
