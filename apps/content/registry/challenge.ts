/** One entry of a WWW-Authenticate header. */
export interface Challenge {
  readonly scheme: string // lower case
  readonly parameters: Readonly<Record<string, string>>
}

const MAX_HEADER = 8 * 1024 // characters
/** A name; with a value it is a parameter, else the scheme of another challenge. */
const WORD = /[\s,]*([A-Za-z][A-Za-z0-9_-]*)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/y
const ORDER = ['bearer', 'digest', 'basic']

/** Reads challenges, one or more a header line, the ones we like best first. What cannot be read is left out. */
export function parseChallenges(lines: readonly string[]): Challenge[] {
  const challenges = lines.filter((line) => line.length <= MAX_HEADER).flatMap(parseLine)
  return challenges.sort((a, b) => rank(a) - rank(b))
}

function parseLine(line: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = []
  const word = new RegExp(WORD)
  for (let match = word.exec(line); match; match = word.exec(line)) {
    const [, name = '', quoted, bare] = match
    const value = quoted?.replace(/\\(.)/g, '$1') ?? bare
    if (value === undefined) challenges.push({ scheme: name.toLowerCase(), parameters: {} })
    else Object.assign(challenges.at(-1)?.parameters ?? {}, { [name.toLowerCase()]: value })
  }
  return challenges
}

function rank({ scheme }: Challenge): number {
  const at = ORDER.indexOf(scheme)
  return at < 0 ? ORDER.length : at
}
