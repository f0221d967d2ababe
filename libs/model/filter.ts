import { Fault } from './fault.ts'
import { compilePattern } from './filter-pattern.ts'
import { FilterScanner } from './filter-scanner.ts'

const MAX_FILTERS = 1024
const MAX_FILTER_LENGTH = 64 * 1024 // characters of one filter
const MAX_FIELDS = 64 // components of one field path

/** Looks up one field of the thing being filtered; `undefined` says that it is absent. */
export type Adaptor = (fieldpath: readonly string[]) => string | undefined

type Test = (adaptor: Adaptor) => boolean

/**
 * Compiles the filters of a List or Subscribe call. The strings are alternatives; inside one, selectors parted by commas
 * must all hold. No strings at all, or an empty one, let everything through.
 *
 *     selector  := fieldpath [("==" | "!=" | "~=") value]
 *     fieldpath := field {"." field}
 *
 * Without an operator the field must be present. `!=` and `~=` take an absent field for "".
 *
 * @throws {Fault} `invalid-argument` with the offset of the mistake; a bad pattern is no mistake, it just never matches
 */
export function parseFilters(filters: readonly string[]): Test {
  if (filters.length > MAX_FILTERS)
    throw new Fault('invalid-argument', `Cannot use ${filters.length} filters: more than ${MAX_FILTERS}`)
  const alternatives = filters.map(parseFilter)
  return (adaptor) => alternatives.length === 0 || alternatives.some((test) => test(adaptor))
}

/** A value, or a map whose keys are what remains of the path joined by dots; `undefined` when absent. */
export type Fields = Readonly<Record<string, string | Readonly<Record<string, string>> | undefined>>

/**
 * An adaptor over top-level fields: `fieldsOf({ name: 'box', labels: { 'a.b': '1' } })` answers `name`, `labels.a.b` and
 * `labels."a.b"`. A plain field that is empty counts as absent, a label does not.
 */
export function fieldsOf(fields: Fields): Adaptor {
  return ([first = '', ...rest]) => {
    const value = Object.hasOwn(fields, first) ? fields[first] : undefined
    if (value === undefined) return undefined
    if (typeof value === 'string') return rest.length === 0 && value !== '' ? value : undefined
    const key = rest.join('.')
    return Object.hasOwn(value, key) ? value[key] : undefined
  }
}

function parseFilter(text: string): Test {
  if (text === '') return () => true
  if (text.length > MAX_FILTER_LENGTH)
    throw new Fault(
      'invalid-argument',
      `Cannot use a filter of ${text.length} characters: more than ${MAX_FILTER_LENGTH}`,
    )
  const scanner = new FilterScanner(text)
  const selectors = [parseSelector(scanner)]
  for (let token = scanner.next(); token.kind !== 'end'; token = scanner.next()) {
    if (token.kind !== 'separator' || token.text !== ',') throw scanner.fault('a comma is missing')
    selectors.push(parseSelector(scanner))
  }
  return (adaptor) => selectors.every((selector) => selector(adaptor))
}

function parseSelector(scanner: FilterScanner): Test {
  const path = parseFieldPath(scanner)
  if (scanner.peek().kind !== 'operator') return (adaptor) => adaptor(path) !== undefined
  const operator = scanner.next()
  const text = operator.kind === 'operator' ? operator.text : ''
  if (text !== '==' && text !== '!=' && text !== '~=')
    throw scanner.fault(`operator ${JSON.stringify(text)} is unknown`)
  const value = parseValue(scanner, text === '~=')
  switch (text) {
    case '==':
      return (adaptor) => adaptor(path) === value
    case '!=':
      return (adaptor) => (adaptor(path) ?? '') !== value
    case '~=': {
      const matches = compilePattern(value)
      return (adaptor) => matches(adaptor(path) ?? '')
    }
  }
}

function parseFieldPath(scanner: FilterScanner): string[] {
  const path = [parseField(scanner)]
  for (let token = scanner.peek(); token.kind === 'separator' && token.text === '.'; token = scanner.peek()) {
    scanner.next()
    path.push(parseField(scanner))
    if (path.length > MAX_FIELDS) throw scanner.fault('a field path is too deep')
  }
  return path
}

function parseField(scanner: FilterScanner): string {
  const token = scanner.next()
  if (token.kind === 'word') return token.text
  if (token.kind === 'quoted' && token.quote === '"') return token.text
  throw scanner.fault('a field is missing')
}

/** Slashes and bars quote patterns only. */
function parseValue(scanner: FilterScanner, pattern: boolean): string {
  const token = scanner.value()
  if (token.kind === 'quoted' && token.quote !== '"' && !pattern)
    throw scanner.fault(`a value may not be quoted with ${token.quote}`)
  if (token.kind === 'quoted' || token.kind === 'bare') return token.text
  throw scanner.fault('a value is missing')
}
