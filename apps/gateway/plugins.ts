import type { Plugin } from '@gantry/service/plugins'

/** What the gateway itself adds to the list of plugins. */
export const PLUGINS: readonly Plugin[] = [
  { type: 'io.containerd.event.v1', id: 'exchange' },
  { type: 'io.containerd.grpc.v1', id: 'events' },
  { type: 'io.containerd.grpc.v1', id: 'healthcheck' },
  { type: 'io.containerd.grpc.v1', id: 'introspection' },
  { type: 'io.containerd.grpc.v1', id: 'version' },
  { type: 'io.containerd.service.v1', id: 'introspection-service' },
  { type: 'io.containerd.server.v1', id: 'grpc' },
]
