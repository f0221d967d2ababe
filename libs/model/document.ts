import { Fault } from './fault.ts'

/** A JSON document that somebody else wrote, read field by field. `null` counts as absent, as Go writes it for empty lists. */
export interface Document {
  has(field: string): boolean
  text(field: string): string | undefined
  flag(field: string): boolean
  size(field: string): bigint | undefined
  texts(field: string): string[] | undefined
  textMap(field: string): Record<string, string> | undefined
  keys(field: string): string[] | undefined
  object(field: string): Document | undefined
  objects(field: string): Document[] | undefined
  fault(why: string): Fault
}

export interface Limits {
  readonly bytes: number
  readonly entries: number // of one list or map
  readonly what: string // for messages, such as `manifest`
}

/** @throws {Fault} `invalid-argument` when it is too big, not UTF-8, not JSON or not an object */
export function parseDocument(bytes: Uint8Array, limits: Limits): Document {
  if (bytes.length > limits.bytes)
    throw new Fault(
      'invalid-argument',
      `Cannot read the ${limits.what}: ${bytes.length} bytes, more than ${limits.bytes}`,
    )
  const value = parseJson(bytes, limits.what)
  if (!isRecord(value)) throw new Fault('invalid-argument', `Cannot read the ${limits.what}: not a JSON object`)
  return documentOf(value, '', limits)
}

/** The same for a list of objects. @throws {Fault} `invalid-argument` */
export function parseDocuments(bytes: Uint8Array, limits: Limits): Document[] {
  if (bytes.length > limits.bytes)
    throw new Fault(
      'invalid-argument',
      `Cannot read the ${limits.what}: ${bytes.length} bytes, more than ${limits.bytes}`,
    )
  const value = parseJson(bytes, limits.what)
  const list = { list: value }
  return documentOf(list, '', limits).objects('list') ?? []
}

function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new Fault('invalid-argument', `Cannot read the ${what}: not valid JSON`, { cause })
  }
}

function documentOf(record: Readonly<Record<string, unknown>>, path: string, limits: Limits): Document {
  const fault = (why: string) => new Fault('invalid-argument', `Cannot read the ${limits.what}: ${path}${why}`)
  const get = (field: string): unknown => (Object.hasOwn(record, field) ? (record[field] ?? undefined) : undefined)
  const bounded = <T>(field: string, entries: T[]): T[] => {
    if (entries.length > limits.entries) throw fault(`${field} has more than ${limits.entries} entries`)
    return entries
  }
  const list = (field: string): unknown[] | undefined => {
    const value = get(field)
    if (value !== undefined && !Array.isArray(value)) throw fault(`${field} is not a list`)
    return value === undefined ? undefined : bounded(field, [...value])
  }
  const map = (field: string): [string, unknown][] | undefined => {
    const value = get(field)
    if (value !== undefined && !isRecord(value)) throw fault(`${field} is not an object`)
    return value === undefined ? undefined : bounded(field, Object.entries(value))
  }
  const textOf = (value: unknown, field: string): string => {
    if (typeof value !== 'string' || value.includes('\0')) throw fault(`${field} is not a text`)
    return value
  }
  const child = (value: unknown, field: string): Document => {
    if (!isRecord(value)) throw fault(`${field} is not an object`)
    return documentOf(value, `${path}${field}.`, limits)
  }
  return {
    fault,
    has: (field) => get(field) !== undefined,
    text: (field) => (get(field) === undefined ? undefined : textOf(get(field), field)),
    flag: (field) => get(field) === true,
    size: (field) => sizeOf(get(field), () => fault(`${field} is not a size`)),
    texts: (field) => list(field)?.map((value) => textOf(value, field)),
    textMap: (field) =>
      fromEntries(map(field)?.map(([key, value]) => [key, textOf(value, `${field}.${key.slice(0, 64)}`)])),
    keys: (field) => map(field)?.map(([key]) => key),
    object: (field) => (get(field) === undefined ? undefined : child(get(field), field)),
    objects: (field) => list(field)?.map((value, index) => child(value, `${field}[${index}]`)),
  }
}

function sizeOf(value: unknown, fault: () => Fault): bigint | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw fault()
  return BigInt(value)
}

function fromEntries(entries: [string, string][] | undefined): Record<string, string> | undefined {
  return entries && Object.fromEntries(entries)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
