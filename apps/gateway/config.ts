import { z } from 'zod'

/** The `[gateway]` table: where the owners are, when they are not beside the gateway in the state folder. */
export const Config = z.strictObject({
  /** The public socket; `<state>/gantry.sock` unless told. */
  socket: z.string().startsWith('/').optional(),
  metadata: z.string().startsWith('/').optional(),
  content: z.string().startsWith('/').optional(),
  snapshots: z.string().startsWith('/').optional(),
  tasks: z.string().startsWith('/').optional(),
})
