import { chmodSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { Fault } from '@gantry/model/fault'

/**
 * Makes sure that `path` is a folder of ours that nobody else can enter, but those whom an access list lets walk through
 * (its mode then shows as 0710). A new or empty one is set to 0700; one that
 * holds something and is open to others is refused, as it may be somebody else's (`/tmp`).
 *
 * @param what names the folder in messages, such as `state`
 * @throws {Fault} `failed-precondition`
 */
export function claimFolder(path: string, what: string): void {
  const refuse = (reason: string, cause?: unknown): never => {
    throw new Fault('failed-precondition', `Cannot use ${path} as ${what} folder: ${reason}`, { cause })
  }
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    const { uid, mode } = statSync(path)
    if (uid !== process.getuid?.()) refuse(`it belongs to user ${uid}`)
    if ((mode & 0o067) === 0) return
    if (readdirSync(path).length > 0)
      refuse(`others may enter it (mode ${(mode & 0o7777).toString(8)}); chmod it to 700`)
    chmodSync(path, 0o700)
  } catch (error) {
    if (error instanceof Fault) throw error
    refuse(error instanceof Error ? error.message : String(error), error)
  }
}
