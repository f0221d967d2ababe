import { parseTime } from '@gantry/model/clock'

/**
 * What labels say to a collection (behaviour facts, 12). A suffix makes a key unique: after `.` or `/`, and after `/` where
 * a snapshotter is named.
 *
 *   containerd.io/gc.root                               stays by itself
 *   containerd.io/gc.ref.content[.x]                    digest it refers to; also image, stream, mount
 *   containerd.io/gc.ref.snapshot.<snapshotter>[/x]     key or name of a snapshot
 *   containerd.io/gc.bref.container[.x]                 who refers to it; also content, image, snapshot.<snapshotter>[/x]
 *   containerd.io/gc.cond.snapshot.<snapshotter>[/x]    `usedat<24h|<key>`: refers to it while that is so
 *   containerd.io/gc.cond.value-usedat                  when a snapshot was used last
 *   containerd.io/gc.expire                             when an image or lease stops to stay by itself
 *   containerd.io/gc.flat                               a lease that does not follow the labels of what it holds
 */
const GC = 'containerd.io/gc.'
const ROOT = `${GC}root`
const REF = `${GC}ref.`
const BREF = `${GC}bref.`
const COND = `${GC}cond.`
const USED_AT = `${GC}cond.value-usedat`
const FLAT = `${GC}flat`
const EXPIRE = `${GC}expire`

const REF_KINDS: Readonly<Record<string, string>> = {
  content: 'content',
  image: 'images',
  stream: 'streams',
  mount: 'mounts',
}
const BREF_KINDS: Readonly<Record<string, string>> = { container: 'containers', content: 'content', image: 'images' }
const UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
}

const NONE: LabelReferences = { refs: [], brefs: [], conds: [] }

type Labels = Readonly<Record<string, string>>

/** Another thing of the same namespace. */
export interface Reference {
  readonly kind: string
  readonly id: string
}

export interface Conditional extends Reference {
  /** @param idleMs how long the snapshot was not used; undefined when nobody knows */
  readonly holds: (idleMs: number | undefined) => boolean
}

/** What labels refer to, in both directions. */
export interface LabelReferences {
  readonly refs: readonly Reference[]
  readonly brefs: readonly Reference[]
  readonly conds: readonly Conditional[]
}

/** What does not follow the grammar refers to nothing. */
export function referencesOf(labels: Labels): LabelReferences {
  const keys = Object.keys(labels)
  if (keys.length === 0) return NONE
  const refs: Reference[] = []
  const brefs: Reference[] = []
  const conds: Conditional[] = []
  for (const key of keys) {
    const value = labels[key] ?? ''
    const ref = kindOf(key, REF, REF_KINDS)
    const bref = kindOf(key, BREF, BREF_KINDS)
    const cond = kindOf(key, COND, {})
    if (ref !== undefined) refs.push({ kind: ref, id: value })
    if (bref !== undefined) brefs.push({ kind: bref, id: value })
    const conditional = cond === undefined ? undefined : parseConditional(cond, value)
    if (conditional) conds.push(conditional)
  }
  return { refs, brefs, conds }
}

/** Does the thing stay by itself? Any key that begins so says it, whatever its value. */
export function isLabelledRoot(labels: Labels): boolean {
  return Object.keys(labels).some((key) => key.startsWith(ROOT))
}

export function isFlat(labels: Labels): boolean {
  return FLAT in labels
}

/** In milliseconds since 1970; undefined without the label, or when its text is no RFC 3339 time: that never comes. */
export function expiryOf(labels: Labels): number | undefined {
  return parseTime(labels[EXPIRE] ?? '')
}

export function usedAtOf(labels: Labels): number | undefined {
  return parseTime(labels[USED_AT] ?? '')
}

function kindOf(key: string, prefix: string, kinds: Readonly<Record<string, string>>): string | undefined {
  if (!key.startsWith(prefix)) return undefined
  const rest = key.slice(prefix.length)
  if (rest.startsWith('snapshot.')) {
    const [snapshotter] = rest.slice('snapshot.'.length).split('/')
    return snapshotter ? `snapshots/${snapshotter}` : undefined
  }
  for (const name in kinds) {
    const next = rest[name.length]
    if (rest.startsWith(name) && (next === undefined || next === '.' || next === '/')) return kinds[name]
  }
  return undefined
}

/** `usedat<op><duration>[,...]|<key>`; all of the conditions have to hold. */
function parseConditional(kind: string, text: string): Conditional | undefined {
  const at = text.indexOf('|')
  const conditions = text.slice(0, at).split(',').map(parseCondition)
  if (at < 0 || conditions.includes(undefined)) return undefined
  const holds = (idleMs: number | undefined): boolean =>
    idleMs !== undefined && conditions.every((condition) => condition?.(idleMs))
  return { kind, id: text.slice(at + 1), holds }
}

function parseCondition(text: string): ((idleMs: number) => boolean) | undefined {
  const [, op, duration = ''] = /^usedat([<>])(.*)$/.exec(text) ?? []
  const ms = parseDuration(duration)
  if (op === undefined || ms === undefined) return undefined
  return op === '<' ? (idleMs) => idleMs < ms : (idleMs) => idleMs > ms
}

/** Go's way to write a duration, such as `1h30m`; in milliseconds. */
function parseDuration(text: string): number | undefined {
  if (!/^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined
  let ms = 0
  for (const [, number, unit = ''] of text.matchAll(/([0-9.]+)(ns|us|µs|ms|s|m|h)/g))
    ms += Number(number) * (UNITS_MS[unit] ?? 0)
  return ms
}
