/** The shape of a `google.protobuf.Timestamp`, good as its initial value. */
export interface Instant {
  readonly seconds: bigint
  readonly nanos: number
}

/**
 * "Not yet": the first second of year 1, which clients recognise as the zero time. An omitted timestamp would reach them
 * as 1970 and defeat their test.
 */
export const ZERO_TIME: Instant = Object.freeze({ seconds: -62135596800n, nanos: 0 })

/** @param time a `Date` or milliseconds since 1970, fractions kept to the nanosecond */
export function toTimestamp(time: Date | number): Instant {
  const ms = typeof time === 'number' ? time : time.getTime()
  const seconds = Math.floor(ms / 1000)
  return carry(BigInt(seconds), Math.round((ms - seconds * 1000) * 1e6))
}

/** Milliseconds since 1970; what is below a millisecond is lost. */
export function toMs(time: Instant): number {
  return Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6)
}

/** Nanoseconds since 1970, as the kernel counts the times of files. */
export function toNanoseconds(time: Instant): bigint {
  return time.seconds * 1_000_000_000n + BigInt(time.nanos)
}

export function isZeroTime(time: Instant | undefined): boolean {
  return time === undefined || (time.seconds === ZERO_TIME.seconds && time.nanos === 0)
}

const RFC_3339 = /^(\d{4}-\d\d-\d\d)T(\d\d):\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/

/** Milliseconds since 1970 of an RFC 3339 time, as strictly as Go reads it: undefined for any other text, or a day that is none. */
export function parseTime(text: string): number | undefined {
  const [, day, hour] = RFC_3339.exec(text) ?? []
  const ms = Date.parse(text)
  if (day === undefined || hour === '24' || Number.isNaN(ms)) return undefined
  return new Date(`${day}T00:00:00Z`).toISOString().startsWith(day) ? ms : undefined
}

function carry(seconds: bigint, nanos: number): Instant {
  return nanos >= 1e9 ? { seconds: seconds + 1n, nanos: nanos - 1e9 } : { seconds, nanos }
}
