import { Fault } from '@gantry/model/fault'
import { parse, TomlError } from 'smol-toml'
import { z } from 'zod'

export const CAPABILITIES = ['pull', 'resolve', 'push', 'referrers'] as const
/** What a host may be asked for. */
export type Capability = (typeof CAPABILITIES)[number]

/** One host as a hosts.toml writes it: paths still as they are written. */
export interface HostEntry {
  /** Where its API is, with `/v2` where that belongs there; no trailing slash, no query. */
  readonly url: URL
  readonly capabilities: readonly Capability[]
  readonly ca: readonly string[]
  /** Certificate and key; the same file twice when it holds both. */
  readonly clients: readonly (readonly [certificate: string, key: string])[]
  readonly skipVerify: boolean
  readonly headers: Readonly<Record<string, string>>
  readonly dialTimeoutMs: number | undefined
}

export interface HostsFile {
  /** In the order of the file: the first is asked first. */
  readonly mirrors: readonly HostEntry[]
  /** What stands at the top of the file, for the host that is asked last. Without `server` its url is undefined. */
  readonly server: Omit<HostEntry, 'url'> & { readonly url: URL | undefined }
}

const Text = z.string().min(1)
const Header = z.string().regex(/^[\t\x20-\x7e\x80-\xff]*$/, 'must be one line')
const Host = {
  capabilities: z.array(z.enum(CAPABILITIES)).optional(),
  ca: z.union([Text, z.array(Text)]).optional(),
  client: z.union([Text, z.array(z.union([Text, z.array(Text).min(1).max(2)]))]).optional(),
  skip_verify: z.boolean().optional(),
  header: z.record(z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/), z.union([Header, z.array(Header)])).optional(),
  override_path: z.boolean().optional(),
  dial_timeout: Text.optional(),
}
const HostTable = z.strictObject(Host)
const FileTable = z.strictObject({ server: Text.optional(), ...Host, host: z.record(Text, HostTable).optional() })

type HostTable = z.infer<typeof HostTable>

/**
 * Reads a hosts.toml.
 *
 * @param file names it in messages
 * @throws {Fault} `failed-precondition` naming the file and what is wrong with it; an unknown key is an error
 * @see behaviour facts, 17.2
 */
export function parseHosts(text: string, file: string): HostsFile {
  const wrong = (why: string, cause?: unknown): Fault =>
    new Fault('failed-precondition', `Cannot use ${file}: ${why}`, { cause })
  const result = FileTable.safeParse(parseToml(text, wrong))
  if (!result.success) {
    const issue = result.error.issues[0]
    throw wrong(issue ? `${issue.path.map(String).join('.')}: ${issue.message}`.replace(/^: /, '') : 'it is malformed')
  }
  const { server, host = {}, ...rest } = result.data
  const entry = (table: HostTable, url: string): HostEntry => ({
    ...settingsOf(table, wrong),
    url: apiUrl(url, table.override_path ?? false, wrong),
  })
  return {
    mirrors: Object.entries(host).map(([url, table]) => entry(table, url)),
    server: server === undefined ? { ...settingsOf(rest, wrong), url: undefined } : entry(rest, server),
  }
}

type Wrong = (why: string, cause?: unknown) => Fault

function parseToml(text: string, wrong: Wrong): unknown {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    throw wrong(`line ${error.line}: ${error.message.split('\n')[0]}`, error)
  }
}

function settingsOf(table: HostTable, wrong: Wrong): Omit<HostEntry, 'url'> {
  const { capabilities = CAPABILITIES, ca = [], client = [], header = {}, dial_timeout: dial } = table
  const pairs = (typeof client === 'string' ? [client] : client).map((pair) => {
    const [certificate = '', key = certificate] = typeof pair === 'string' ? [pair] : pair
    return [certificate, key] as const
  })
  return {
    capabilities: capabilities.length > 0 ? capabilities : CAPABILITIES,
    ca: typeof ca === 'string' ? [ca] : ca,
    clients: pairs,
    skipVerify: table.skip_verify ?? false,
    headers: Object.fromEntries(
      Object.entries(header).map(([name, value]) => [
        name.toLowerCase(),
        typeof value === 'string' ? value : value.join(', '),
      ]),
    ),
    dialTimeoutMs: dial === undefined ? undefined : durationMs(dial, wrong),
  }
}

/** Where the API is: https unless the text says otherwise, and under `/v2` unless it says where. */
function apiUrl(text: string, overridePath: boolean, wrong: Wrong): URL {
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `https://${text}`)
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.search !== '' || url.hash !== '')
    throw wrong(`${JSON.stringify(text.slice(0, 128))} is no address of a registry`)
  if (url.username !== '' || url.password !== '') throw wrong(`the address of ${url.host} has credentials in it`)
  const path = url.pathname.replace(/\/+$/, '')
  url.pathname = overridePath || path.endsWith('/v2') ? path : `${path}/v2`
  return url
}

const UNITS = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const

/** A duration as Go writes it, such as `1m30s` or `500ms`. */
function durationMs(text: string, wrong: Wrong): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)]
  const read = parts.map(([part]) => part).join('')
  if (read === '' || read !== text) throw wrong(`dial_timeout: ${JSON.stringify(text.slice(0, 32))} is no duration`)
  const ms = parts.reduce((sum, [, number, unit]) => sum + Number(number) * (UNITS[unit as keyof typeof UNITS] ?? 0), 0)
  return Math.min(Math.max(Math.ceil(ms), 1), UNITS.h)
}
