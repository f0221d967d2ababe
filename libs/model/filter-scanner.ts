import { Fault } from './fault.ts'

/**
 * Tokens of the filter language. `word` is a run of field characters, `quoted` carries the text between the quotes with
 * escapes undone, `bare` is a value without quotes.
 */
export type Token =
  | { readonly kind: 'word' | 'quoted' | 'bare'; readonly text: string; readonly quote: string }
  | { readonly kind: 'separator' | 'operator'; readonly text: string }
  | { readonly kind: 'end' }

const SPACE = /[\s\u0085]/u
const OPERATOR = /[=!~]/
const SEPARATOR = /[,.]/
const QUOTE = /["/|]/
const FIELD = /[A-Za-z0-9_]/
const NOT_GRAPHIC = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/u
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
}
const NUMBER_ESCAPES: Readonly<Record<string, RegExp>> = {
  x: /^[0-9A-Fa-f]{2}/,
  u: /^[0-9A-Fa-f]{4}/,
  U: /^[0-9A-Fa-f]{8}/,
}

/** Reads one filter from left to right. White space between tokens has no meaning. */
export class FilterScanner {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  /** The next token where a field, a separator or an operator may stand. */
  next(): Token {
    this.#skipSpace()
    const rune = this.#rune()
    if (rune === '') return { kind: 'end' }
    if (QUOTE.test(rune)) return this.#quoted()
    if (SEPARATOR.test(rune)) return { kind: 'separator', text: this.#take(SEPARATOR, 1) }
    if (OPERATOR.test(rune)) return { kind: 'operator', text: this.#take(OPERATOR, 2) }
    if (FIELD.test(rune)) return { kind: 'word', text: this.#take(FIELD, Number.POSITIVE_INFINITY), quote: '' }
    throw this.fault(`unexpected ${JSON.stringify(rune)}`)
  }

  /** What `next` would give, without taking it. */
  peek(): Token {
    const at = this.#at
    const token = this.next()
    this.#at = at
    return token
  }

  /** The next token where a value must stand: quoted, or bare up to the next comma or white space. */
  value(): Token {
    this.#skipSpace()
    const rune = this.#rune()
    if (QUOTE.test(rune)) return this.#quoted()
    if (rune === '' || SEPARATOR.test(rune) || OPERATOR.test(rune)) throw this.fault('a value is missing')
    let text = ''
    for (let next = rune; next !== '' && next !== ',' && !SPACE.test(next); next = this.#rune()) {
      if (NOT_GRAPHIC.test(next)) throw this.fault('a value holds a character that cannot be printed')
      text += next
      this.#at += next.length
    }
    return { kind: 'bare', text, quote: '' }
  }

  fault(why: string): Fault {
    const shown = JSON.stringify(this.#text.slice(0, 128))
    return new Fault('invalid-argument', `Cannot parse filter ${shown}: ${why} at offset ${this.#at}`)
  }

  #quoted(): Token {
    const quote = this.#rune()
    let text = ''
    this.#at += 1
    for (;;) {
      const rune = this.#rune()
      if (rune === '' || rune === '\n') throw this.fault('a quote is not closed')
      this.#at += rune.length
      if (rune === quote) return { kind: 'quoted', text, quote }
      text += rune === '\\' ? this.#escape(quote) : rune
    }
  }

  #escape(quote: string): string {
    const rune = this.#rune()
    if (rune === quote) {
      this.#at += 1
      return quote
    }
    const simple = SIMPLE_ESCAPES[rune]
    if (simple !== undefined) {
      this.#at += 1
      return simple
    }
    const rest = this.#text.slice(this.#at)
    const octal = /^[0-7]{3}/.exec(rest)
    if (octal) return this.#codePoint(octal[0], 8, 3)
    const digits = NUMBER_ESCAPES[rune]?.exec(rest.slice(1))
    if (digits) return this.#codePoint(digits[0], 16, digits[0].length + 1)
    throw this.fault('an escape is unknown')
  }

  #codePoint(digits: string, base: number, length: number): string {
    const code = Number.parseInt(digits, base)
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) || (base === 8 && code > 0xff))
      throw this.fault('an escape names no character')
    this.#at += length
    return String.fromCodePoint(code)
  }

  #take(set: RegExp, most: number): string {
    const start = this.#at
    while (this.#at - start < most && set.test(this.#rune())) this.#at += 1
    return this.#text.slice(start, this.#at)
  }

  #skipSpace(): void {
    while (SPACE.test(this.#rune())) this.#at += 1
  }

  #rune(): string {
    const code = this.#text.codePointAt(this.#at)
    return code === undefined ? '' : String.fromCodePoint(code)
  }
}
