import { setFlagsFromString } from 'node:v8'
import { Fault } from './fault.ts'

const MAX_PATTERN = 4096 // characters
const MAX_SPELT = 16_384 // characters, when repetitions are spelt out
const MAX_TIMES = 1000 // that something is repeated, as RE2 has it
const BUDGET_MS = 2000
const SHARE = 0.05 // of the time that has gone by since: a subscription may last for weeks
const FLAGS = /^\(\?([ims]+)\)/
const POSIX: Readonly<Record<string, string>> = {
  alnum: 'A-Za-z0-9',
  alpha: 'A-Za-z',
  digit: '0-9',
  lower: 'a-z',
  upper: 'A-Z',
  space: '\\s',
  word: '\\w',
  xdigit: '0-9A-Fa-f',
  punct: '!-\\/:-@\\[-`{-~',
}

// V8 has an engine that never backtracks, behind a flag. Only expressions that ask for it (flag `l`) use it.
setFlagsFromString('--enable-experimental-regexp-engine')

/**
 * Compiles a pattern as containerd's clients write it (RE2), unanchored. It runs in time linear to the text whatever the
 * pattern, because it comes from a client. One that is malformed, too long, or needs look-around or back references matches nothing.
 *
 * @throws {Fault} from what it returns: `resource-exhausted` when that has taken seconds altogether, in which nobody else is served
 */
export function compilePattern(pattern: string): (text: string) => boolean {
  if (pattern.length > MAX_PATTERN) return () => false
  const flags = FLAGS.exec(pattern)
  const modes = flags?.[1] ?? ''
  const spelt = spellOut(pattern.slice(flags?.[0].length ?? 0))
  if (spelt === undefined) return () => false
  const body = translate(spelt, modes.includes('i'))
  try {
    const expression = new RegExp(body, `l${modes.includes('m') ? 'm' : ''}${modes.includes('s') ? 's' : ''}`)
    return withinBudget((text) => expression.test(text))
  } catch {
    return () => false
  }
}

function withinBudget(test: (text: string) => boolean): (text: string) => boolean {
  const begun = performance.now()
  let spent = 0
  return (text) => {
    const from = performance.now()
    const found = test(text)
    const now = performance.now()
    spent += now - from
    if (spent > BUDGET_MS + SHARE * (now - begun))
      throw new Fault('resource-exhausted', 'The pattern of a filter takes too long: make it shorter')
    return found
  }
}

/** An escape, a set, a repetition so many times, the beginning of a group that is kept, or any other character. */
const PARTS =
  /\\(?:[pPx]\{[^}]*\}|x[\da-f]{2}|[0-7]{2,3}|[\s\S])|\[\^?\]?(?:\\[\s\S]|\[:[a-z]+:\]|[^\]\\])*\]|\{(\d+)(,?)(\d*)\}\??|(\((?:\?P<\w+>|(?!\?)))|[\s\S]/gi

/**
 * `x{2,4}` as `xx(?:x)?(?:x)?`: the linear engine takes no more than sixteen of anything. And no group is kept: the engine
 * copies all of them at each character. Undefined for a pattern that is malformed, or too long.
 */
function spellOut(pattern: string): string | undefined {
  const open: number[] = [] // groups
  let out = ''
  let last: number | undefined // where what may be repeated begins
  for (const [part, least, more, most, group] of pattern.matchAll(PARTS)) {
    if (least !== undefined) {
      const times = timesOf(Number(least), more === '' ? least : most)
      const spelt = last === undefined || !times ? undefined : repeated(out.slice(last), times)
      if (spelt === undefined) return undefined
      out = out.slice(0, last) + spelt
      last = undefined
    } else {
      if (part.startsWith('(')) open.push(out.length)
      last = '*+?'.includes(part) ? undefined : part === ')' ? open.pop() : out.length
      out += group === undefined ? part : '(?:'
    }
    if (out.length > MAX_SPELT) return undefined
  }
  return out
}

interface Times {
  readonly least: number
  /** Infinity for as many as there are. */
  readonly most: number
}

function timesOf(least: number, text = ''): Times | undefined {
  const most = text === '' ? Number.POSITIVE_INFINITY : Number(text)
  return least > MAX_TIMES || (most > MAX_TIMES && text !== '') || most < least ? undefined : { least, most }
}

function repeated(what: string, { least, most }: Times): string | undefined {
  const endless = most === Number.POSITIVE_INFINITY
  if (what.length * (endless ? least : most) > MAX_SPELT) return undefined
  return `(?:${what.repeat(least)}${endless ? `(?:${what})*` : `(?:${what})?`.repeat(most - least)})`
}

/** From RE2's spelling to JavaScript's, where they differ; `fold` spells out both cases, which the linear engine cannot do. */
function translate(pattern: string, fold: boolean): string {
  let inClass = false
  return pattern.replace(/\\[\s\S]|\[:[a-z]+:\]|[A-Za-z]-[A-Za-z]|[\s\S]/g, (part) => {
    if (part === '\\A') return '^'
    if (part === '\\z') return '$'
    if (part.startsWith('[:')) return inClass ? (POSIX[part.slice(2, -2)] ?? part) : part
    if (part === '[') inClass = true
    else if (part === ']') inClass = false
    return fold ? bothCases(part, inClass) : part
  })
}

function bothCases(part: string, inClass: boolean): string {
  if (/^[A-Za-z]$/.test(part)) {
    const both = part.toLowerCase() + part.toUpperCase()
    return inClass ? both : `[${both}]`
  }
  if (part.length === 3 && part[1] === '-') {
    if (!inClass) return [...part].map((letter) => bothCases(letter, false)).join('')
    return part.toLowerCase() + part.toUpperCase()
  }
  return part
}
