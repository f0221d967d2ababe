import { Fault } from '@gantry/model/fault'

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const
const MEMORY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const
const POWERS: Readonly<Record<string, bigint>> = { '': 0n, k: 1n, m: 2n, g: 3n, t: 4n }

/** Bytes for people, in powers of 1,000 with three digits, as `docker images` shows them: `4.27MB`. */
export function formatSize(bytes: bigint | number): string {
  return scaled(Number(bytes), { base: 1000, digits: 3, units: UNITS })
}

/** Memory for people, in powers of 1,024 with four digits, as `docker stats` shows it: `1.516MiB`. */
export function formatMemory(bytes: bigint | number): string {
  return scaled(Number(bytes), { base: 1024, digits: 4, units: MEMORY_UNITS })
}

function scaled(value: number, how: { base: number; digits: number; units: readonly string[] }): string {
  const { base, digits, units } = how
  const unit = units.findIndex((_, at) => at === units.length - 1 || value / base ** at < base - 0.5)
  return `${Number((value / base ** unit).toPrecision(digits))}${units[unit]}`
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
