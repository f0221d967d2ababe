import { setFlagsFromString } from 'node:v8'

const MAX_PATTERN = 4096 // characters
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
 */
export function compilePattern(pattern: string): (text: string) => boolean {
  if (pattern.length > MAX_PATTERN) return () => false
  const flags = FLAGS.exec(pattern)
  const modes = flags?.[1] ?? ''
  const body = translate(pattern.slice(flags?.[0].length ?? 0), modes.includes('i'))
  try {
    const expression = new RegExp(body, `l${modes.includes('m') ? 'm' : ''}${modes.includes('s') ? 's' : ''}`)
    return (text) => expression.test(text)
  } catch {
    return () => false
  }
}

/** From RE2's spelling to JavaScript's, where they differ; `fold` spells out both cases, which the linear engine cannot do. */
function translate(pattern: string, fold: boolean): string {
  let inClass = false
  return pattern.replace(/\\[\s\S]|\[:[a-z]+:\]|\(\?P<|[A-Za-z]-[A-Za-z]|[\s\S]/g, (part) => {
    if (part === '\\A') return '^'
    if (part === '\\z') return '$'
    if (part === '(?P<') return inClass ? part : '(?<'
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
