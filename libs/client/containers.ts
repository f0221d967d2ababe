import { Fault } from '@gantry/model/fault'
import type { Images } from './images.ts'
import type { Spec, SpecOptions } from './spec.ts'
import type { Wire } from './wire.ts'

export interface Container {
  readonly id: string
  readonly image: string
  readonly runtime: string
  readonly snapshotter: string
  readonly snapshotKey: string
  readonly labels: Readonly<Record<string, string>>
  readonly createdAt: Date
  readonly updatedAt: Date
  /** The OCI runtime spec; `undefined` when it is none that we can read. */
  readonly spec: Spec | undefined
}

export interface CreateContainer {
  readonly id: string
  /** The name of an image that is there and unpacked. */
  readonly image: string
  readonly platform?: string
  readonly snapshotter?: string
  /** A runtime name such as `io.containerd.runc.v2`; the default unless told. */
  readonly runtime?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly spec: SpecOptions
}

export interface Containers {
  /** Prepares a snapshot named like the container and writes the record, both or neither. */
  create(options: CreateContainer, signal: AbortSignal): Promise<Container>
  list(filters: readonly string[], signal: AbortSignal): Promise<Container[]>
  /** @throws {Fault} `not-found` */
  get(id: string, signal: AbortSignal): Promise<Container>
  /** Deletes the record and its snapshot (kept with `keepSnapshot`). @throws {Fault} `failed-precondition` while it has a task */
  delete(id: string, options: { readonly keepSnapshot?: boolean }, signal: AbortSignal): Promise<void>
}

export function createContainers(_wire: Wire, _images: Images): Containers {
  throw new Fault('unimplemented', 'Not yet')
}
