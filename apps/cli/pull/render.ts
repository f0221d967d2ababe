import { formatSize } from '../format/size.ts'
import { printable } from '../text.ts'
import { type Item, isFinished, type PullState } from './progress.ts'

const MAX_BAR = 40 // characters
const MIN_BAR = 8
const NAME = 22
const EVENT = 14
const SIZES = 15

/**
 * The block a terminal shows: one line an object with a bar, one for the whole. Lines fit `columns`; when there are more
 * than `rows` allow, finished ones are left out first.
 */
export function renderBlock(state: PullState, screen: { columns: number; rows: number }, elapsedMs: number): string[] {
  const room = Math.max(1, screen.rows - 2)
  const all = [...state.items.values()]
  const active = all.filter((item) => !isFinished(item))
  const shown = all.length <= room ? all : active.slice(0, room)
  const done = all.reduce((sum, { done }) => sum + done, 0n)
  const hidden = all.length - shown.length
  const summary = [
    `${(elapsedMs / 1000).toFixed(1)} s`,
    formatSize(done),
    ...(hidden > 0 ? [`${hidden} more`] : []),
    ...(state.status === '' ? [] : [printable(state.status)]),
  ]
  return [...shown.map((item) => renderItem(item, screen.columns)), summary.join('  ')].map((line) =>
    line.slice(0, screen.columns - 1),
  )
}

/** The line for those who read a log: no bar, no sizes that change. */
export function renderPlain({ name, event, total }: Item): string {
  return `${shortName(name)}: ${printable(event)}${total > 0n ? ` (${formatSize(total)})` : ''}`
}

function renderItem(item: Item, columns: number): string {
  const { name, event, done, total } = item
  const sizes = total > 0n ? `${formatSize(isFinished(item) ? total : done)}/${formatSize(total)}` : ''
  const head = `${shortName(name).padEnd(NAME)} ${printable(event).padEnd(EVENT)} `
  const width = Math.min(MAX_BAR, columns - head.length - SIZES - 4)
  const bar = width >= MIN_BAR ? `[${renderBar(fraction(item), width)}] ` : ''
  return `${head}${bar}${sizes}`
}

/** `=====>     ` */
export function renderBar(part: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, part)) * width)
  return (filled === 0 || filled === width ? '='.repeat(filled) : `${'='.repeat(filled - 1)}>`).padEnd(width)
}

function fraction(item: Item): number {
  if (isFinished(item) || item.event === 'extracting') return 1
  return item.total > 0n ? Number(item.done) / Number(item.total) : 0
}

/** `layer-sha256:0123456789ab...` is long: a dozen digits tell layers apart. */
function shortName(name: string): string {
  return printable(name).replace(/^(\w+)-sha\d+:([0-9a-f]{12})[0-9a-f]*/, '$1-$2')
}
