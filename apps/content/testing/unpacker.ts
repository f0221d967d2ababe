import type { Unpacker } from '../pull/unpacker.ts'

/** Unpacks nothing. */
export const noUnpacker: Unpacker = {
  plan: () => [],
  begin: () => ({ add: async () => undefined, finish: async () => undefined }),
}
