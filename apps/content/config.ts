import { z } from 'zod'

/** The `[content]` table. */
export const Config = z.strictObject({
  /** `shared`: a namespace that names a blob's digest may have it; `isolated`: it must bring the bytes itself. */
  policy: z.enum(['shared', 'isolated']).default('shared'),
  /** Connections of one pull that bring blobs at the same time. */
  max_concurrent_downloads: z.number().int().min(1).max(64).default(8),
  /** Of these, how many may bring parts of the same large blob while no other one needs them; 1 asks for no parts. */
  max_connections_per_blob: z.number().int().min(1).max(64).default(4),
  max_concurrent_uploads: z.number().int().min(1).max(64).default(4),
  /** A download that makes no progress for this long is given up. */
  stall_timeout_s: z.number().int().min(1).max(3600).default(30),
  /** Snapshotters that a pull may unpack with; the first one is meant when the client names none. */
  unpack_snapshotters: z.array(z.string().min(1)).min(1).default(['overlayfs', 'native']),
  /** Each program in this folder is asked about an image before it is fetched or imported. */
  verifier_dir: z.string().startsWith('/').default('/opt/containerd/image-verifier/bin'),
  /** At most so many of them, the first by name; -1 means all. */
  max_verifiers: z.number().int().min(-1).default(10),
  /** A program that takes longer has not agreed. */
  per_verifier_timeout_s: z.number().int().min(1).max(3600).default(10),
  /** The `certs.d` folder: what is to be known about hosts of images. */
  hosts_dir: z.string().startsWith('/').default('/etc/containerd/certs.d'),
  /** Credentials for pulls of clients that send none; `DOCKER_CONFIG` or `~/.docker/config.json` unless told. */
  docker_config: z.string().startsWith('/').optional(),
})

export type Config = z.infer<typeof Config>
