import type { GantryClient } from '@gantry/client/client'
import { ignoring, isFault } from '@gantry/model/fault'
import { normalizeReference } from '@gantry/model/reference'

/** The name of an image as it is stored: as it stands if there is one, for `ctr` gives images any name; else completed. */
export async function imageName(client: GantryClient, reference: string, signal: AbortSignal): Promise<string> {
  const exact = await ignoring('not-found', client.images.get(reference, signal))
  return exact ? reference : fullName(reference)
}

function fullName(reference: string): string {
  try {
    return normalizeReference(reference).text
  } catch (error) {
    if (isFault(error, 'invalid-argument')) return reference
    throw error
  }
}
