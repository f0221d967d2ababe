import type { Container } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { INIT_LABEL } from '@gantry/model/labels'
import { NETWORK_LABEL, parseNetworkLabel } from '@gantry/model/network'
import { findInit } from './init.ts'
import { type ResolveParts, resolveRuntime, type Wish } from './runtime/resolve.ts'
import type { Stdio } from './runtime/stdio.ts'
import type { CreateOptions, RootfsMount } from './tasks.ts'

export interface RecordParts extends ResolveParts {
  /** Name or path of the small init. */
  readonly init: string
}

/** What a client says about a task beside its container's record. */
export interface TaskWish {
  readonly namespace: string
  readonly rootfs: readonly RootfsMount[]
  readonly stdio: Stdio
  readonly runtime: Pick<Wish, 'path' | 'options' | 'address' | 'version' | 'isRestored'>
}

/** How the task of a container is to be made. @throws {Fault} `invalid-argument` or `not-found` for a runtime that is none, `failed-precondition` for a program that is missing */
export function fromRecord(runtimes: RecordParts, container: Container, wish: TaskWish): CreateOptions {
  const network = container.labels[NETWORK_LABEL]
  return {
    spec: container.spec?.value ?? new Uint8Array(),
    rootfs: wish.rootfs.map(({ type, source, target, options }) => ({ type, source, target, options })),
    stdio: wish.stdio,
    runtime: resolveRuntime(runtimes, {
      ...{ namespace: wish.namespace, name: container.runtime?.name ?? '', ...wish.runtime },
      containerOptions: container.runtime?.options,
      spec: container.spec?.value,
    }),
    ...(network !== undefined && { network: parseNetworkLabel(network) }),
    ...(container.labels[INIT_LABEL] === 'true' && { init: findInit(runtimes.host, runtimes.init) }),
    ...(container.sandbox !== '' && { sandbox: container.sandbox }),
  }
}
