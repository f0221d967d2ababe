import { arch as nodeArch, platform as nodeOs } from 'node:process'
import { Fault } from './fault.ts'

/** Where an image runs. `''` and absent mean the same for version, variant and features. */
export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string
  readonly osVersion?: string
  readonly osFeatures?: readonly string[]
}

export interface Matcher {
  /** May an image of this platform run here? */
  match(platform: Platform): boolean
  /** Does `a` fit better than `b`? A platform that matches beats one that does not. */
  less(a: Platform, b: Platform): boolean
}

const MAX_SPECIFIER = 256 // characters
const WORD = /^[A-Za-z0-9_.-]+$/
const OS_PART = /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.+-]*)\))?$/
const KNOWN_OS = new Set(
  'aix android darwin dragonfly freebsd hurd illumos ios js linux macos nacl netbsd openbsd plan9 solaris windows zos'.split(
    ' ',
  ),
)
const KNOWN_ARCH = new Set(
  '386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm'.split(' '),
)
const NODE_ARCH: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', loong64: 'loong64', ppc64: 'ppc64le' }

/** The platform of this process: Linux and its architecture. */
export function hostPlatform(): Platform {
  return normalizePlatform({
    os: nodeOs === 'win32' ? 'windows' : nodeOs,
    architecture: NODE_ARCH[nodeArch] ?? nodeArch,
  })
}

/**
 * Reads `os[(version+feature...)]/arch[/variant]`. One word alone is an OS or an architecture, the host gives the other half.
 *
 * @throws {Fault} `invalid-argument` for a wildcard, an unknown single word or a malformed part
 */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/')
  if (text.length > MAX_SPECIFIER || parts.length > 3 || text.includes('*')) throw malformed(text)
  const [first = '', second, third] = parts
  if (second === undefined) return parseSingle(text)
  if (!WORD.test(second) || (third !== undefined && !WORD.test(third))) throw malformed(text)
  return normalizePlatform({ ...parseOs(first, text), architecture: second, ...(third ? { variant: third } : {}) })
}

/** The text that `parsePlatform` reads back. */
export function formatPlatform(platform: Platform): string {
  const extra = [platform.osVersion ?? '', ...(platform.osFeatures ?? [])].join('+')
  const os = extra === '' ? platform.os : `${platform.os}(${extra})`
  return [os || 'unknown', platform.architecture, platform.variant].filter(Boolean).join('/')
}

/** One spelling for each platform: `x86_64` becomes `amd64`, `armhf` becomes `arm/v7`, an empty OS becomes the host's. */
export function normalizePlatform(platform: Platform): Platform {
  const [architecture, variant] = normalizeArch(
    platform.architecture.toLowerCase(),
    platform.variant?.toLowerCase() ?? '',
  )
  const os = platform.os.toLowerCase()
  return {
    os: os === '' ? nodeOs : os === 'macos' ? 'darwin' : os,
    architecture,
    ...(variant ? { variant } : {}),
    ...(platform.osVersion ? { osVersion: platform.osVersion } : {}),
    ...(platform.osFeatures?.length ? { osFeatures: [...platform.osFeatures].sort() } : {}),
  }
}

/** Accepts what can run on `wanted`: also older variants and the 32-bit kin of its architecture, the nearest first. */
export function matcher(wanted: Platform): Matcher {
  const choices = compatible(normalizePlatform(wanted))
  const rank = (platform: Platform) => {
    const normal = normalizePlatform(platform)
    const at = choices.findIndex((choice) => fits(choice, normal))
    return at < 0 ? choices.length : at
  }
  return {
    match: (platform) => rank(platform) < choices.length,
    less: (a, b) => rank(a) < rank(b),
  }
}

/** Accepts the same platform only, after normalising. */
export function strictMatcher(wanted: Platform): Matcher {
  const choice = normalizePlatform(wanted)
  const match = (platform: Platform) => fits(choice, normalizePlatform(platform))
  return { match, less: (a, b) => match(a) && !match(b) }
}

function parseSingle(text: string): Platform {
  const os = OS_PART.exec(text)
  if (os && KNOWN_OS.has((os[1] ?? '').toLowerCase())) {
    const host = hostPlatform()
    return normalizePlatform({ ...parseOs(text, text), architecture: host.architecture, ...variantOf(host) })
  }
  const [architecture] = normalizeArch(text.toLowerCase(), '')
  if (!KNOWN_ARCH.has(architecture)) throw malformed(text)
  return normalizePlatform({ os: hostPlatform().os, architecture: text })
}

function parseOs(part: string, text: string): Pick<Platform, 'os' | 'osVersion' | 'osFeatures'> {
  const found = OS_PART.exec(part)
  if (!found) throw malformed(text)
  const [osVersion = '', ...features] = (found[2] ?? '').split('+')
  const osFeatures = features.filter((feature) => feature !== '')
  return { os: found[1] ?? '', ...(osVersion ? { osVersion } : {}), ...(osFeatures.length ? { osFeatures } : {}) }
}

function malformed(text: string): Fault {
  return new Fault(
    'invalid-argument',
    `Cannot use platform ${JSON.stringify(text.slice(0, MAX_SPECIFIER))}: give os/architecture or os/architecture/variant`,
  )
}

function normalizeArch(architecture: string, variant: string): [architecture: string, variant: string] {
  switch (architecture) {
    case 'i386':
      return ['386', '']
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return ['amd64', variant === 'v1' ? '' : variant]
    case 'aarch64':
    case 'arm64':
      return ['arm64', normalizeArm64Variant(variant)]
    case 'armhf':
      return ['arm', 'v7']
    case 'armel':
      return ['arm', 'v6']
    case 'arm':
      return ['arm', variant === '' || variant === '7' ? 'v7' : /^[568]$/.test(variant) ? `v${variant}` : variant]
    default:
      return [architecture, variant]
  }
}

function normalizeArm64Variant(variant: string): string {
  if (['8', 'v8', '8.0', 'v8.0'].includes(variant)) return ''
  if (['9', '9.0', 'v9.0'].includes(variant)) return 'v9'
  return variant
}

function compatible(platform: Platform): Platform[] {
  const of = (architecture: string, variants: readonly string[]): Platform[] =>
    variants.map((variant) => {
      const { variant: _, ...rest } = platform
      return { ...rest, architecture, ...(variant ? { variant } : {}) }
    })
  switch (platform.architecture) {
    case 'amd64':
      return [...of('amd64', amd64Variants(platform.variant)), ...of('386', [''])]
    case 'arm':
      return of('arm', armVariants(platform.variant ?? 'v7'))
    case 'arm64':
      return [...of('arm64', arm64Variants(platform.variant)), ...of('arm', armVariants('v8'))]
    default:
      return [platform]
  }
}

/** v4 runs v4, v3, v2 and v1; v1 is spelt as no variant. */
function amd64Variants(variant: string | undefined): string[] {
  const level = /^v([1-9])$/.exec(variant ?? 'v1')
  if (!level) return [variant ?? '']
  return downFrom(Number(level[1]), 1).map((n) => (n === 1 ? '' : `v${n}`))
}

function armVariants(variant: string): string[] {
  const level = /^v([5-9])$/.exec(variant)
  return level ? downFrom(Number(level[1]), 5).map((n) => `v${n}`) : [variant]
}

/** v9.x runs v9.x and below, then v8.(x+5) and below; v8.x runs v8.x and below. v8.0 is spelt as no variant, v9.0 as v9. */
function arm64Variants(variant: string | undefined): string[] {
  const level = /^v([89])(?:\.([0-9]))?$/.exec(variant ?? 'v8')
  if (!level) return [variant ?? '']
  const minor = Number(level[2] ?? 0)
  const eights = (from: number) => downFrom(from, 0).map((n) => (n === 0 ? '' : `v8.${n}`))
  if (level[1] === '8') return eights(minor)
  return [...downFrom(minor, 0).map((n) => (n === 0 ? 'v9' : `v9.${n}`)), ...eights(Math.min(minor + 5, 9))]
}

function downFrom(from: number, to: number): number[] {
  return Array.from({ length: from - to + 1 }, (_, index) => from - index)
}

/** Both are normal. The image may ask for fewer OS features than we offer; only Windows looks at its build number. */
function fits(choice: Platform, image: Platform): boolean {
  if (choice.os !== image.os || choice.architecture !== image.architecture) return false
  if ((choice.variant ?? '') !== (image.variant ?? '')) return false
  if (!(image.osFeatures ?? []).every((feature) => choice.osFeatures?.includes(feature))) return false
  return choice.os !== 'windows' || sameBuild(choice.osVersion, image.osVersion)
}

/** `10.0.17763.1` and `10.0.17763.2` are one build; no version asked means any. */
function sameBuild(wanted: string | undefined, image: string | undefined): boolean {
  if (!wanted || !image) return true
  const build = (version: string) => version.split('.').slice(0, 3).join('.')
  return build(wanted) === build(image)
}

function variantOf(platform: Platform): Pick<Platform, 'variant'> {
  return platform.variant ? { variant: platform.variant } : {}
}
