/** One entry of a WWW-Authenticate header. */
export interface Challenge {
  readonly scheme: string // lower case
  readonly parameters: Readonly<Record<string, string>>
}

const MAX_HEADER = 8 * 1024 // characters
const SCHEME = /^\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|$)/
const PARAMETER = /([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g
const ORDER = ['bearer', 'digest', 'basic']

/** Reads challenges, one a header line, the ones we like best first. What cannot be read is left out. */
export function parseChallenges(lines: readonly string[]): Challenge[] {
  const challenges = lines.filter((line) => line.length <= MAX_HEADER).flatMap(parseChallenge)
  return challenges.sort((a, b) => rank(a) - rank(b))
}

function parseChallenge(line: string): Challenge[] {
  const scheme = SCHEME.exec(line)
  if (!scheme) return []
  const parameters: Record<string, string> = {}
  for (const [, name = '', quoted, bare] of line.slice(scheme[0].length).matchAll(PARAMETER))
    parameters[name.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? bare ?? ''
  return [{ scheme: (scheme[1] ?? '').toLowerCase(), parameters }]
}

function rank({ scheme }: Challenge): number {
  const at = ORDER.indexOf(scheme)
  return at < 0 ? ORDER.length : at
}
