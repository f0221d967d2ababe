import type { Container } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { NETWORK_LABEL, parseNetworkLabel } from '@gantry/model/network'
import { type ResolveParts, resolveRuntime, type Wish } from './runtime/resolve.ts'
import type { Stdio } from './runtime/stdio.ts'
import type { CreateOptions, RootfsMount } from './tasks.ts'

/** What a client says about a task beside its container's record. */
export interface TaskWish {
  readonly namespace: string
  readonly rootfs: readonly RootfsMount[]
  readonly stdio: Stdio
  readonly runtime: Pick<Wish, 'path' | 'options' | 'address' | 'version'>
}

/** How the task of a container is to be made. @throws {Fault} `invalid-argument` or `not-found` for a runtime that is none */
export function fromRecord(runtimes: ResolveParts, container: Container, wish: TaskWish): CreateOptions {
  const network = container.labels[NETWORK_LABEL]
  return {
    spec: container.spec?.value ?? new Uint8Array(),
    rootfs: wish.rootfs.map(({ type, source, target, options }) => ({ type, source, target, options })),
    stdio: wish.stdio,
    runtime: resolveRuntime(runtimes, {
      ...{ namespace: wish.namespace, name: container.runtime?.name ?? '', ...wish.runtime },
      containerOptions: container.runtime?.options,
    }),
    ...(network !== undefined && { network: parseNetworkLabel(network) }),
    ...(container.sandbox !== '' && { sandbox: container.sandbox }),
  }
}
