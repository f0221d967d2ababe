import { constants } from 'node:os'
import { Fault } from '@gantry/model/fault'

const LAST_SIGNAL = 64
const FIRST_REALTIME = 34 // SIGRTMIN as libc counts, which keeps the first two for itself

/**
 * The number of a signal: `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseSignal(text: string): number {
  const name = text.toUpperCase().replace(/^SIG/, '')
  const realtime = /^RT(?:MIN(?:\+(\d+))?|MAX(?:-(\d+))?)$/.exec(name)
  const number = /^\d+$/.test(name)
    ? Number(name)
    : realtime
      ? name.startsWith('RTMIN')
        ? FIRST_REALTIME + Number(realtime[1] ?? 0)
        : LAST_SIGNAL - Number(realtime[2] ?? 0)
      : byName.get(name)
  if (number === undefined || number < 1 || number > LAST_SIGNAL || (realtime && number < FIRST_REALTIME))
    throw new Fault('invalid-argument', `Cannot send ${JSON.stringify(text)}: there is no such signal`)
  return number
}

const byName = new Map(Object.entries(constants.signals).map(([name, number]) => [name.replace(/^SIG/, ''), number]))
