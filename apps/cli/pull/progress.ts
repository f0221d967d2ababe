import type { Progress } from '@gantry/client/images'

/** How far one object of an image is: a manifest, a config, a layer. */
export interface Item {
  readonly name: string
  readonly event: string // waiting, downloading, extracting, extracted, already exists, complete, ...
  readonly done: bigint // bytes
  readonly total: bigint // bytes; 0 when not known
}

/** What is known of a pull, in the order in which its objects were heard of. */
export interface PullState {
  readonly status: string // the last line about the whole
  readonly items: ReadonlyMap<string, Item>
}

export const NOTHING: PullState = { status: '', items: new Map() }

/** The state after one more report. The name of the image itself is no object of it. */
export function advance(state: PullState, { event, name, progress, total }: Progress): PullState {
  if (!/^(?:manifest|index|config|layer|attestation|unknown|resource)-/.test(name)) return { ...state, status: event }
  const before = state.items.get(name)
  const item = { name, event, done: progress, total: total > 0n ? total : (before?.total ?? 0n) }
  return { ...state, items: new Map(state.items).set(name, item) }
}

export function isFinished({ event }: Item): boolean {
  return FINISHED.has(event)
}

const FINISHED = new Set(['complete', 'extracted', 'already exists', 'done'])
