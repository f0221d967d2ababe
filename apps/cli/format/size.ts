import { Fault } from '@gantry/model/fault'

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const
const POWERS: Readonly<Record<string, bigint>> = { '': 0n, k: 1n, m: 2n, g: 3n, t: 4n }

/** Bytes for people, in powers of 1,000 with three digits, as `docker images` shows them: `4.27MB`. */
export function formatSize(bytes: bigint | number): string {
  let value = Number(bytes)
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit++
  }
  return `${Number(value.toPrecision(3))}${UNITS[unit]}`
}

/**
 * Bytes as people type them: `64m`, `1.5g`, `1024`, in powers of 1,024.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseSize(text: string): bigint {
  const match = /^(\d{1,15})(?:\.(\d{1,6}))?([kmgt]?)(?:i?b)?$/i.exec(text)
  if (!match) throw new Fault('invalid-argument', `Cannot use size ${JSON.stringify(text)}: write it like 64m or 1g`)
  const [, whole = '', fraction = '', unit = ''] = match
  const scale = 1024n ** (POWERS[unit.toLowerCase()] ?? 0n)
  return BigInt(whole) * scale + (BigInt(fraction.padEnd(6, '0')) * scale) / 1_000_000n
}
