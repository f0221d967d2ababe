import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { parse, TomlError } from 'smol-toml'
import { z } from 'zod'
import { claimFolder } from './folder.ts'
import type { LoopbackPort } from './metrics-endpoint.ts'
import { nearest } from './nearest.ts'
import type { Options } from './process.ts'
import type { TraceConfig } from './tracer.ts'

const DEFAULT_FILE = '/etc/gantry/gantry.toml'
const MAX_SOCKET_BYTES = 107 // what the kernel takes as the path of a unix socket
const LONGEST_SOCKET = 'snapshots.sock.metrics'

/** The tables of the file; each process reads its own and knows that the others exist. */
const APPS = ['gateway', 'metadata', 'content', 'snapshots', 'tasks', 'cli'] as const
export type App = (typeof APPS)[number]

const Folder = z.string().regex(/^\/[^\0]+$/, 'must be an absolute path')
const Shared = { root: Folder.default('/var/lib/gantry'), state: Folder.default('/run/gantry') }
const Nats = z.strictObject({
  url: z
    .string()
    .regex(/^(nats|tls):\/\/\S+$/, 'must look like nats://host:port')
    .optional(),
  token_file: Folder.optional(),
  max_age_h: z.number().int().min(1).max(87_600).default(168),
  max_bytes: z
    .number()
    .int()
    .min(1024 * 1024)
    .default(1024 * 1024 * 1024),
})

/** A port for metrics: whoever can reach it may read, so nobody beyond this machine can. */
const PortText = z
  .string()
  .refine((text) => parseLoopback(text), 'must be a loopback address and a port, such as 127.0.0.1:9640')
  .optional()
const MetricsTable = z.strictObject({
  ...{ gateway: PortText, metadata: PortText, content: PortText },
  ...{ snapshots: PortText, tasks: PortText },
})
const Trace = z.strictObject({
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
  ratio: z.number().min(0).max(1).default(1),
})

/** How to reach the bus and what to keep on it. */
export interface NatsConfig {
  /** Fixed by configuration; without it `urlFile` is read at each attempt to connect. */
  readonly url: string | undefined
  /** Where `gantry up` writes the URL of the server it started, credentials included. */
  readonly urlFile: string
  readonly tokenFile: string | undefined
  /** The limits of the event log: hours and bytes. */
  readonly maxAgeH: number
  readonly maxBytes: number
  /** How this process is listed in the directory of live instances. */
  readonly instance: { readonly app: App; readonly address: string }
}

/** What every process knows. */
export interface SharedConfig {
  /** Absolute folder of what must survive a reboot; the process keeps its part in `<root>/<app>`. */
  readonly root: string
  /** Absolute folder of sockets and of what a reboot clears. */
  readonly state: string
  readonly nats: NatsConfig
  /** The port on which this process serves its metrics, beside the socket that it always has. */
  readonly metrics: { readonly address: LoopbackPort | undefined }
  readonly trace: TraceConfig
}

/**
 * Reads the configuration of one process: its own table of the TOML file, the shared keys, and the command line, which
 * wins. Makes the root and state folders, mode 0700.
 *
 * @param table the schema of the `[<app>]` table; a key it does not know is an error
 * @throws {Fault} `invalid-argument` with one clear line for the operator; `failed-precondition` for unusable folders
 */
export function loadConfig<S extends z.ZodObject>(app: App, table: S, options: Options): z.infer<S> & SharedConfig {
  const { file, text } = readFile(options.config)
  const config = parseConfig(app, table, { file, text, options })
  claimFolder(config.root, 'root')
  claimFolder(config.state, 'state')
  return config
}

/** The same without touching the disk. @param source.file names the text in messages */
export function parseConfig<S extends z.ZodObject>(
  app: App,
  table: S,
  source: { file: string; text: string; options: Options },
): z.infer<S> & SharedConfig {
  const { file, text, options } = source
  const anyTable = z.record(z.string(), z.unknown()).default({})
  const schema = z.strictObject({
    ...Shared,
    nats: Nats.prefault({}),
    metrics: MetricsTable.prefault({}),
    trace: Trace.prefault({}),
    ...Object.fromEntries(APPS.map((name) => [name, anyTable])),
  })
  const content = { ...parseToml(file, text), ...flagsOf(options) }
  const { root, state, nats, metrics, trace } = check(schema, content, file, '')
  check(table.strict(), content[app] ?? {}, file, app)
  const own = check(table, content[app] ?? {}, file, app)
  const url = options.nats ?? nats.url
  if (options.nats !== undefined) check(Nats, { url }, 'the command line', 'nats')
  checkSockets(state)
  return {
    ...own,
    root,
    state,
    metrics: { address: app === 'cli' ? undefined : parseLoopback(metrics[app]) },
    trace: { endpoint: trace.endpoint, ratio: trace.ratio },
    nats: {
      url,
      urlFile: join(state, 'nats', 'url'),
      tokenFile: nats.token_file,
      maxAgeH: nats.max_age_h,
      maxBytes: nats.max_bytes,
      instance: { app, address: join(state, `${app}.sock`) },
    },
  }
}

/**
 * Reads another TOML file that an operator writes, as strictly.
 *
 * @throws {Fault} `invalid-argument` with one clear line
 */
export function parseFile<S extends z.ZodObject>(schema: S, file: string, text: string): z.infer<S> {
  return check(schema, parseToml(file, text), file, '')
}

/** Where the configuration has the gateway serve; what else it says is looked at by the gateway itself. */
export function publicSocket(options: Options, config: { readonly state: string }): string {
  const { file, text } = readFile(options.config)
  const { gateway } = parseToml(file, text)
  const told = gateway !== null && typeof gateway === 'object' && 'socket' in gateway ? gateway.socket : undefined
  return typeof told === 'string' ? told : socketOf(config, 'gantry')
}

/** The socket a process serves; `gantry` is the public one. */
export function socketOf(config: { readonly state: string }, app: App | 'gantry'): string {
  return join(config.state, `${app}.sock`)
}

function parseLoopback(text = ''): LoopbackPort | undefined {
  const [, host = '', port] = /^(127(?:\.\d{1,3}){3}|\[::1\]|localhost):(\d{1,5})$/.exec(text) ?? []
  if (host === '' || Number(port) > 65_535) return undefined
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) }
}

function readFile(path: string | undefined): { file: string; text: string } {
  const file = path ?? DEFAULT_FILE
  try {
    return { file, text: readFileSync(file, 'utf8') }
  } catch (error) {
    const absent = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    if (absent && path === undefined) return { file, text: '' }
    const reason = absent ? 'there is no such file' : error instanceof Error ? error.message : String(error)
    throw new Fault('invalid-argument', `Cannot read the configuration ${file}: ${reason}`, { cause: error })
  }
}

function parseToml(file: string, text: string): Record<string, unknown> {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const reason = error.message.split('\n')[0]
    throw new Fault('invalid-argument', `Cannot read ${file}, line ${error.line}: ${reason}`, { cause: error })
  }
}

function flagsOf({ root, state }: Options): Record<string, string> {
  return { ...(root !== undefined && { root }), ...(state !== undefined && { state }) }
}

function check<S extends z.ZodObject>(schema: S, value: unknown, file: string, table: string): z.infer<S> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new Fault(
    'invalid-argument',
    `Cannot use ${file}: ${issue ? explain(issue, schema, table) : 'it is malformed'}`,
  )
}

function explain(issue: z.core.$ZodIssue, schema: z.ZodObject, table: string): string {
  const path = [table, ...issue.path.map(String)].filter((part) => part !== '')
  if (issue.code !== 'unrecognized_keys') return `${path.join('.')}: ${issue.message}`
  const key = issue.keys[0] ?? ''
  const known = knownKeys(schema, issue.path)
  const guess = nearest(key, known)
  const where = path.length > 0 ? `in [${path.join('.')}]` : 'at the top level'
  return `there is no key "${key}" ${where}${guess === undefined ? '' : `, did you mean "${guess}"?`}`
}

function knownKeys(schema: z.ZodObject, path: readonly PropertyKey[]): string[] {
  let at: unknown = schema
  for (const step of path) {
    while (at instanceof z.ZodOptional || at instanceof z.ZodDefault || at instanceof z.ZodPrefault) at = at.unwrap()
    if (at instanceof z.ZodObject) at = at.shape[String(step)]
    else if (at instanceof z.ZodRecord) at = at.valueType
    else if (at instanceof z.ZodArray) at = at.element
  }
  while (at instanceof z.ZodOptional || at instanceof z.ZodDefault || at instanceof z.ZodPrefault) at = at.unwrap()
  return at instanceof z.ZodObject ? Object.keys(at.shape) : []
}

function checkSockets(state: string): void {
  const bytes = Buffer.byteLength(join(state, LONGEST_SOCKET))
  if (bytes <= MAX_SOCKET_BYTES) return
  throw new Fault(
    'invalid-argument',
    `Cannot use the state folder ${state}: its sockets would have paths of ${bytes} bytes, the kernel takes ${MAX_SOCKET_BYTES}; choose a shorter one`,
  )
}
