import type { Image, Progress } from '@gantry/client/images'
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
  const given = { ...(credentials && { credentials }), ...(platform !== undefined && { platform }) }
  const onProgress = display && ((report: Progress): void => display.update(report))
  return await session.client.images.pull(
    reference,
    { unpack, plainHttp, allPlatforms, ...given },
    onProgress,
    session.signal,
  )
}
