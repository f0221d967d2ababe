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
  /** Socket of the process that keeps container records, when it is not the one in the state folder. */
  metadata: Path.optional(),
})
