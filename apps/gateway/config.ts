import { z } from 'zod'

const Path = z.string().startsWith('/', 'must be an absolute path')

/** The `[gateway.tcp]` table: the API on a port, with mutual TLS and no other way. */
const Tcp = z.strictObject({
  address: z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[^\s:[\]]+):\d{1,5}$/, 'must look like host:port'),
  cert: Path,
  key: Path,
  /** Who signs the certificates of clients. */
  client_ca: Path,
})

/** The `[gateway.audit]` table: how much is kept of who changed what. */
const AuditLimits = z.strictObject({
  enabled: z.boolean().default(true),
  max_age_h: z.number().int().min(1).max(87_600).default(720),
  max_bytes: z
    .number()
    .int()
    .min(1024 * 1024)
    .default(64 * 1024 * 1024),
})

/** The `[gateway]` table: where the public API is served, to whom, and where the owners are. */
export const Config = z.strictObject({
  /** The public socket; `<state>/gantry.sock` unless told. */
  socket: Path.optional(),
  /** The group that may open it, by name or number; root's unless told. */
  group: z.union([z.string().min(1), z.int().min(0)]).optional(),
  tcp: Tcp.optional(),
  /** The file that says who may do what; without it whoever opens the socket may do anything. */
  policy: Path.optional(),
  audit: AuditLimits.prefault({}),
  /** The owners, when they are not beside the gateway in the state folder. */
  metadata: Path.optional(),
  content: Path.optional(),
  snapshots: Path.optional(),
  tasks: Path.optional(),
})

/** `host:port`, with brackets around an address of IPv6. */
export function hostAndPort(address: string): { readonly host: string; readonly port: number } {
  const at = address.lastIndexOf(':')
  return { host: address.slice(0, at).replace(/^\[(.*)\]$/, '$1'), port: Number(address.slice(at + 1)) }
}
