import { Fault } from '@gantry/model/fault'

const UNITS_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/**
 * Where in the log of events to start, or to end: a sequence number (`1200`), a time (`2026-11-21T10:00:00Z`), or how long ago
 * (`90s`, `1h30m`).
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseSince(text: string, now: Date, what: 'start' | 'end' = 'start'): bigint | Date {
  if (/^\d{1,18}$/.test(text)) return BigInt(text)
  if (/^(\d{1,9}[smhd])+$/.test(text)) {
    const ms = [...text.matchAll(/(\d+)([smhd])/g)].reduce(
      (sum, [, n, unit = '']) => sum + Number(n) * (UNITS_MS[unit] ?? 0),
      0,
    )
    const start = new Date(now.getTime() - ms)
    if (start.getTime() >= 0) return start
  }
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? new Date(text) : undefined
  if (time && !Number.isNaN(time.getTime())) return time
  throw new Fault(
    'invalid-argument',
    `Cannot ${what} at ${JSON.stringify(text)}: give a sequence number, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 10m`,
  )
}
