import { printable } from '../text.ts'

const NAME_WIDTH = 'snapshots'.length
const LEVELS: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
}
const ERROR = 50
const MAX_STACK_LINES = 12
/** Its banner and settings: a page at each start. */
const NATS_CHATTER = / \[INF\] (?!Listening|Server )/
const KNOWN = new Set(['level', 'time', 'pid', 'hostname', 'name', 'msg', 'err'])

/** How a line of a process is shown; undefined for one that is not worth it. */
export type Render = (process: string, line: string) => string | undefined

/**
 * One line for people: the process, then time, level and message of a JSON log line with its further fields. What is
 * no such line is shown as it is. An error brings its stack along, on lines of its own.
 */
export function renderPretty(process: string, line: string): string | undefined {
  if (process === 'nats' && NATS_CHATTER.test(line)) return undefined
  const prefix = `${process.padEnd(NAME_WIDTH)} | `
  const record = parseRecord(line)
  const [first = '', ...rest] = record ? prettyLines(record) : [process === 'nats' ? natsLine(line) : line]
  return [first, ...rest.map((text) => `    ${text}`)].map((text) => prefix + printable(text)).join('\n')
}

/** One line for machines: JSON lines pass as they are, the others are wrapped like one. */
export function renderJson(process: string, line: string): string {
  if (parseRecord(line)) return line
  return JSON.stringify({
    level: 30,
    time: Date.now(),
    name: process === 'nats' ? process : `gantry-${process}`,
    msg: line,
  })
}

function prettyLines(record: Readonly<Record<string, unknown>>): string[] {
  const { level, time, msg, err } = record
  const error = isRecord(err) ? err : undefined
  const fields = Object.entries(record).filter(([key]) => !KNOWN.has(key))
  const parts = [
    timeOf(time),
    (LEVELS[Number(level)] ?? '').padEnd(5),
    typeof msg === 'string' ? msg : '',
    ...fields.map(
      ([key, value]) =>
        `${key}=${typeof value === 'string' && /^[^\s"]+$/.test(value) ? value : JSON.stringify(value)}`,
    ),
    ...(error ? [`err=${JSON.stringify(error.message)}`] : []),
  ]
  const stack = Number(level) >= ERROR && typeof error?.stack === 'string' ? error.stack.split('\n') : []
  return [parts.filter((part) => part !== '').join(' '), ...stack.slice(0, MAX_STACK_LINES).map((text) => text.trim())]
}

/** `[pid] 2026/11/21 10:00:00.000000 [INF] text` as the others look. */
function natsLine(line: string): string {
  const match = /^\[\d+\] \S+ (\d\d:\d\d:\d\d\.\d{3})\d* \[([A-Z]+)\] (.*)$/.exec(line)
  if (!match) return line
  const [, time = '', level = '', text = ''] = match
  const names: Readonly<Record<string, string>> = { INF: 'INFO', WRN: 'WARN', ERR: 'ERROR', FTL: 'FATAL', DBG: 'DEBUG' }
  return `${time} ${(names[level] ?? level).padEnd(5)} ${text}`
}

function timeOf(time: unknown): string {
  const date = new Date(typeof time === 'number' ? time : Number.NaN)
  if (Number.isNaN(date.getTime())) return ''
  const two = (value: number): string => String(value).padStart(2, '0')
  const ms = String(date.getMilliseconds()).padStart(3, '0')
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`
}

function parseRecord(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    const value: unknown = JSON.parse(line)
    return isRecord(value) && typeof value.level === 'number' ? value : undefined
  } catch {
    return undefined
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
