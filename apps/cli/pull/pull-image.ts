import type { Image } from '@gantry/client/images'
import { loginOf } from '../keyring.ts'
import type { Session } from '../session.ts'
import { openDisplay } from './show.ts'

export interface PullWish {
  readonly plainHttp?: boolean
  readonly platform?: string
  readonly allPlatforms?: boolean
  readonly unpack?: boolean
  /** Where to show how it goes; nowhere unless told. */
  readonly out?: NodeJS.WriteStream | undefined
}

/** Pulls an image whose reference is complete. */
export async function pullImage(session: Session, reference: string, wish: PullWish): Promise<Image> {
  const { plainHttp = false, platform, allPlatforms = false, unpack = true, out } = wish
  using display = out && openDisplay(out)
  const credentials = loginOf(session)
  const options = { unpack, credentials, plainHttp, allPlatforms, ...(platform !== undefined && { platform }) }
  return await session.client.images.pull(reference, options, (report) => display?.update(report), session.signal)
}
