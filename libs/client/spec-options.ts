import type { SpecMount } from './spec.ts'

/** What a caller decides about a container; everything else comes from the image, then from our defaults. */
export interface SpecOptions extends Resources, Rights, Surroundings {
  /** Replaces the image's command; its entrypoint stays in front. */
  readonly args?: readonly string[]
  /** Replaces the image's entrypoint; its command is then not used. */
  readonly entrypoint?: readonly string[]
  /** `KEY=value`, later ones win. */
  readonly env?: readonly string[]
  readonly cwd?: string
  readonly tty?: boolean
  /** `uid`, `uid:gid`, `name` or `name:group`; the image's unless told. */
  readonly user?: string
  readonly annotations?: Readonly<Record<string, string>>
  /** Programs of the host that the OCI runtime runs as root at moments of the container's life. */
  readonly hooks?: Hooks
}

/** Limits; what is left out is not limited. */
export interface Resources {
  /** CPUs' worth of time, such as 1.5. */
  readonly cpus?: number
  /** Relative weight, 2 to 262144; 1024 is everybody's. */
  readonly cpuShares?: number
  /** Which CPUs, such as `0-2,5`. */
  readonly cpuset?: string
  /** Bytes. */
  readonly memory?: bigint
  /** Bytes of memory and swap together; -1 is no limit. Needs `memory`. */
  readonly memorySwap?: bigint
  /** Processes and threads; -1 is no limit. */
  readonly pidsLimit?: number
  readonly rlimits?: readonly Rlimit[]
}

/** What its processes may do. */
export interface Rights {
  readonly privileged?: boolean
  /** Names with or without `CAP_`, or `ALL`. */
  readonly capAdd?: readonly string[]
  readonly capDrop?: readonly string[]
  /** Programs with the set-user-id bit give nothing; true unless told or privileged. */
  readonly noNewPrivileges?: boolean
  /** A profile as JSON text, or `unconfined`; a profile of ours unless told or privileged. */
  readonly seccomp?: string
  /** Paths that are hidden, beside those that always are. */
  readonly maskedPaths?: readonly string[]
  /** Paths below /proc and /sys that are neither hidden nor read-only, or `all`. */
  readonly unmaskedPaths?: readonly string[] | 'all'
  /** Which ids of the host those of the container are; the same unless told. */
  readonly userns?: IdMapping
}

/** What it sees. */
export interface Surroundings {
  /** As `parseMount` reads them. */
  readonly mounts?: readonly SpecMount[]
  /** The root file system cannot be written. */
  readonly readOnly?: boolean
  readonly hostname?: string
  /** Device nodes of the host. */
  readonly devices?: readonly DeviceOption[]
  /** Kernel settings of its own namespaces, such as `net.ipv4.ip_forward`. */
  readonly sysctls?: Readonly<Record<string, string>>
  /** `none` has a loopback device alone. */
  readonly network?: 'none' | 'host' | NamespacePath
  readonly ipc?: 'host' | NamespacePath
  readonly pid?: 'host' | NamespacePath
  readonly uts?: 'host' | NamespacePath
}

/** A namespace that is there: `/proc/<pid>/ns/net`, or where one is mounted. */
export interface NamespacePath {
  readonly path: string
}

export interface Rlimit {
  /** As in `ulimit`: `nofile`, `nproc`, `core`. */
  readonly name: string
  /** -1 is no limit. */
  readonly soft: bigint
  readonly hard: bigint
}

export interface DeviceOption {
  /** A node of the host, or a folder of such. */
  readonly source: string
  /** Where the container finds it; the same path unless told. */
  readonly destination?: string
  /** Of `r`, `w` and `m`; all unless told. */
  readonly access?: string
}

export interface IdMapping {
  readonly uids: readonly IdRange[]
  readonly gids: readonly IdRange[]
}

export interface IdRange {
  readonly container: number
  readonly host: number
  readonly size: number
}

/** @see https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks */
export type Hooks = Readonly<
  Partial<
    Record<
      'prestart' | 'createRuntime' | 'createContainer' | 'startContainer' | 'poststart' | 'poststop',
      readonly Hook[]
    >
  >
>

export interface Hook {
  /** Absolute, on the host. */
  readonly path: string
  readonly args?: readonly string[]
  readonly env?: readonly string[]
  /** Seconds. */
  readonly timeout?: number
}
