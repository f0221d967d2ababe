import { z } from 'zod'

const Path = z.string().startsWith('/')

/** The `[tasks]` table. */
export const Config = z.strictObject({
  /** The OCI runtime for containers that name none: `auto`, or an absolute path. */
  runtime: z.union([z.literal('auto'), Path]).default('auto'),
  /** The monitor: a name that is looked up in PATH, or an absolute path. */
  conmon: z
    .string()
    .regex(/^(\/.*|[^/]+)$/)
    .default('conmon'),
  /** The small init that waits in a sandbox and runs commands, statically linked: a name looked up in PATH, or a path. */
  init: z
    .string()
    .regex(/^(\/.*|[^/]+)$/)
    .default('catatonit'),
  /** Folders of CNI plugins, parted by colons. */
  cni_path: z
    .string()
    .regex(/^\/[^:]*(:\/[^:]*)*$/)
    .default('/usr/lib/cni:/opt/cni/bin'),
  /** Folder of the operator's own networks, `*.conflist`. */
  cni_config: Path.default('/etc/cni/net.d'),
  /** The network `bridge`: its device and its addresses. */
  bridge: z
    .string()
    .regex(/^[a-zA-Z0-9_.-]{1,15}$/)
    .default('gantry0'),
  bridge_subnet: z.cidrv4().default('10.63.0.0/16'),
  /** Its addresses of IPv6: none unless told, since they have to be the operator's own. */
  bridge_subnet6: z.cidrv6().optional(),
  /** Socket of the process that keeps container records, when it is not the one in the state folder. */
  metadata: Path.optional(),
  /** The same for the one that keeps snapshots: needed to start containers again. */
  snapshots: Path.optional(),
  /** The same for the one that keeps blobs: checkpoints go there. */
  content: Path.optional(),
})
