import type { Labels } from '@gantry/model/labels'
import type { Mount } from '../drivers/driver.ts'

/** A mount that was carried out. */
export interface ActiveMount {
  readonly mount: Mount
  /** Where it is; for a `loop` a link to its device. */
  readonly point: string
  /** Milliseconds since 1970. */
  readonly mountedAt: number
}

/** A list of mounts that was activated under a name. */
export interface Activation {
  /** The first ones of the list: they are mounted. */
  readonly active: readonly ActiveMount[]
  /** The others, made ready: the caller mounts them. */
  readonly system: readonly Mount[]
  readonly labels: Labels
}
