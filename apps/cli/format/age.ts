const UNITS = [
  ['year', 365 * 24 * 3600],
  ['month', 30 * 24 * 3600],
  ['week', 7 * 24 * 3600],
  ['day', 24 * 3600],
  ['hour', 3600],
  ['minute', 60],
  ['second', 1],
] as const

/** How long ago something was, roughly: `3 minutes ago`. */
export function formatAge(time: Date, now: Date): string {
  const ms = now.getTime() - time.getTime()
  return ms < 1000 ? 'just now' : `${formatDuration(ms)} ago`
}

/** How long something has lasted, roughly: `3 minutes`. */
export function formatDuration(ms: number): string {
  for (const [unit, length] of UNITS) {
    const count = Math.floor(ms / 1000 / length)
    if (count >= 1) return `${count} ${unit}${count === 1 ? '' : 's'}`
  }
  return '0 seconds'
}
