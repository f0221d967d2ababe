import { Transform } from 'node:stream'
import { Fault } from '@gantry/model/fault'
import { Option } from 'commander'
import { parsing } from './collecting.ts'

export const DEFAULT_DETACH_KEYS = 'ctrl-p,ctrl-q'

const CONTROLLED = '@abcdefghijklmnopqrstuvwxyz[\\]^_' // what ctrl- makes 0 to 31

/** For commands that stay with a process. */
export function detachKeysOption(): Option {
  const about = `leave it running, on a terminal (default: ${DEFAULT_DETACH_KEYS})`
  return new Option('--detach-keys <keys>', about).argParser(parsing(parseDetachKeys))
}

/** Keys behind each other, as the bytes they arrive as: `ctrl-p,ctrl-q`, `a,ctrl-]`, `DEL`. @throws {Fault} `invalid-argument` */
export function parseDetachKeys(text: string): Uint8Array {
  return Uint8Array.from(text.split(','), (key) => {
    if (key === 'DEL') return 127
    const code = key.startsWith('ctrl-') && key.length === 6 ? CONTROLLED.indexOf(key.slice(5)) : -1
    if (code >= 0) return code
    if (/^[\x21-\x7e]$/.test(key)) return key.charCodeAt(0)
    throw new Fault('invalid-argument', `Cannot detach by ${JSON.stringify(text)}: write keys like ctrl-p,ctrl-q`)
  })
}

/** Passes on what is typed, but for the keys, which call back; what may be the beginning of them waits for the next key. */
export function watchKeys(keys: Uint8Array, onKeys: () => void): Transform {
  const held: number[] = []
  return new Transform({
    transform(chunk: Uint8Array, _encoding, done) {
      const passed: number[] = []
      for (const byte of chunk) {
        held.push(byte)
        while (held.some((one, at) => one !== keys[at])) passed.push(...held.splice(0, 1))
        if (held.length < keys.length) continue
        held.length = 0
        setImmediate(onKeys) // what was typed before is handed over first
      }
      done(null, Buffer.from(passed))
    },
    flush(done) {
      done(null, Buffer.from(held))
    },
  })
}
