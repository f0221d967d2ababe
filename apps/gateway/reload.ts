import { statSync } from 'node:fs'

const LOOK_MS = 1000

/**
 * Calls `load` whenever one of the files has changed, until disposed. They are looked at once a second: that also sees a
 * file behind a link, and one that was moved into place. What cannot be loaded is complained about once, and tried again
 * until it can: what was loaded before stays in force.
 */
export function reloading(
  files: readonly string[],
  load: () => void,
  log: { info(fields: object, message: string): void; error(fields: object, message: string): void },
): Disposable {
  let loaded = stampOf(files)
  let complaint = ''
  const look = (): void => {
    try {
      const stamp = stampOf(files)
      if (stamp === loaded) return
      load()
      loaded = stamp
      complaint = ''
      log.info({ files }, 'Changed files are in force')
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      if (reason !== complaint)
        log.error({ reason, files }, 'Changed files cannot be used: what was read before stays in force')
      complaint = reason
    }
  }
  const timer = setInterval(look, LOOK_MS).unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

function stampOf(files: readonly string[]): string {
  return files
    .map((file) => {
      const found = statSync(file, { throwIfNoEntry: false, bigint: true })
      return found ? `${found.ino} ${found.size} ${found.mtimeNs} ${found.ctimeNs}` : 'absent'
    })
    .join('\n')
}
