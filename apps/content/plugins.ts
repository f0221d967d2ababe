import type { Plugin } from '@gantry/service/plugins'

/** What Introspection says of this process. @param root the folder of blobs and ingests */
export function plugins(root: string): Plugin[] {
  const service = (type: string, id: string): Plugin => ({ type: `io.containerd.${type}`, id })
  return [
    { ...service('content.v1', 'content'), exports: { root } },
    service('transfer.v1', 'local'),
    service('image-verifier.v1', 'bindir'),
    service('streaming.v1', 'manager'),
    service('service.v1', 'content-service'),
    service('grpc.v1', 'content'),
    service('grpc.v1', 'transfer'),
    service('grpc.v1', 'streaming'),
  ]
}
