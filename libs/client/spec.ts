/** What a caller decides about a container; everything else comes from the image, then from our defaults. */
export interface SpecOptions {
  /** Replaces the image's command; its entrypoint stays in front. */
  readonly args?: readonly string[]
  /** Replaces the image's entrypoint; its command is then not used. */
  readonly entrypoint?: readonly string[]
  /** `KEY=value`, later ones win. */
  readonly env?: readonly string[]
  readonly cwd?: string
  readonly tty?: boolean
  /** As `parseMount` reads them. */
  readonly mounts?: readonly SpecMount[]
  /** The root file system cannot be written. */
  readonly readOnly?: boolean
  /** Limit in bytes. */
  readonly memory?: bigint
  readonly hostname?: string
  /** `uid`, `uid:gid`, `name` or `name:group`; the image's unless told. */
  readonly user?: string
  readonly privileged?: boolean
  /** Shares the host's network. */
  readonly netHost?: boolean
  readonly annotations?: Readonly<Record<string, string>>
}

export interface SpecMount {
  readonly type: string
  readonly source: string
  readonly destination: string
  readonly options: readonly string[]
}

export interface ProcessSpec {
  readonly terminal?: boolean
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids?: readonly number[] }
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly [further: string]: unknown
}

/** An OCI runtime spec, as far as we read it. */
export interface Spec {
  readonly ociVersion: string
  readonly process: ProcessSpec
  readonly mounts: readonly SpecMount[]
  readonly [further: string]: unknown
}
