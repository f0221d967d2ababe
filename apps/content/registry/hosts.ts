import { readdir, readFile, stat } from 'node:fs/promises'
import { isAbsolute, join, resolve } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { type Dial, PLAIN_DIAL } from './dial.ts'
import { dialledHost, type Endpoint, endpointOf } from './endpoint.ts'
import { type HostEntry, parseHosts } from './hosts-file.ts'

const MAX_FILE_BYTES = 1024 * 1024
const MAX_CERTIFICATES = 64 // files of one folder

/** Where to ask for the images of a host. */
export interface HostsQuestion {
  readonly host: string
  /** Scheme of the host itself where no file names one; `''` when nothing is said. */
  readonly defaultScheme: string
  /** Folder of the request, looked at before the configured one; `''` for none. */
  readonly hostDir: string
}

/** The endpoints of a host: mirrors in the order of the file, the host itself last. Read anew each time. */
export type Hosts = (question: HostsQuestion) => Promise<Endpoint[]>

/**
 * Reads the `certs.d` layout:
 *
 *   <dir>/<host>_<port>_/   <dir>/<host>:<port>/ or <dir>/<host>/   <dir>/_default/     the first that exists
 *     hosts.toml            mirrors and settings
 *     *.crt                 without a hosts.toml: who may vouch for the host
 *     *.cert, *.key         without a hosts.toml: who we are, in pairs of the same name
 *
 * @throws {Fault} `failed-precondition` naming a file that cannot be used
 * @see behaviour facts, 17.2
 */
export function createHosts(hostsDir: string): Hosts {
  return async ({ host, defaultScheme, hostDir }) => {
    const upstream = endpointOf(host, defaultScheme)
    if (hostDir !== '' && !isAbsolute(hostDir))
      throw new Fault('invalid-argument', 'Cannot use the host_dir of the request: it is no absolute path')
    for (const root of [hostDir, hostsDir].filter((dir) => dir !== '')) {
      const folder = await folderOf(root, host)
      if (folder !== undefined) return await readFolder(folder, upstream)
    }
    return [upstream]
  }
}

async function folderOf(root: string, host: string): Promise<string | undefined> {
  const [, name = host, port] = /^(.*):(\d+)$/.exec(host) ?? []
  const names = [...(port === undefined ? [] : [`${name}_${port}_`]), host, '_default']
  for (const folder of names.map((candidate) => join(root, candidate))) if (await isFolder(folder)) return folder
  return undefined
}

async function readFolder(folder: string, upstream: Endpoint): Promise<Endpoint[]> {
  const file = join(folder, 'hosts.toml')
  const text = await readText(file)
  if (text === undefined || text.trim() === '') {
    const dial = await loneCertificates(folder)
    return [dial ? { ...upstream, dial, from: folder } : upstream]
  }
  const { mirrors, server } = parseHosts(text, file)
  const url = server.url ?? new URL(`${upstream.origin}${upstream.prefix}`)
  return await Promise.all(
    [...mirrors, { ...server, url }].map((entry) => toEndpoint(entry, { file, folder, upstream })),
  )
}

async function toEndpoint(
  entry: HostEntry,
  { file, folder, upstream }: { file: string; folder: string; upstream: Endpoint },
): Promise<Endpoint> {
  const read = async (path: string): Promise<string> => {
    const text = await readText(resolve(folder, path))
    if (text?.includes('-----BEGIN ')) return text
    throw new Fault(
      'failed-precondition',
      `Cannot use ${file}: ${resolve(folder, path)} ${text === undefined ? 'does not exist' : 'is not in PEM'}`,
    )
  }
  const { url, capabilities, headers, skipVerify, dialTimeoutMs: timeoutMs } = entry
  const ca = await Promise.all(entry.ca.map(read))
  const clients = await Promise.all(
    entry.clients.map(async ([certificate, key]) => ({ certificate: await read(certificate), key: await read(key) })),
  )
  return {
    host: upstream.host,
    origin: url.origin,
    prefix: url.pathname === '/' ? '' : url.pathname,
    own: url.host === new URL(`${url.protocol}//${dialledHost(upstream.host)}`).host,
    ...{ capabilities, headers, from: file },
    dial: { ca, clients, skipVerify, timeoutMs },
  }
}

/** Docker's habit: certificates that lie beside each other, without a word about them. */
async function loneCertificates(folder: string): Promise<Dial | undefined> {
  const names = (await readdir(folder)).sort().slice(0, MAX_CERTIFICATES)
  const pem = async (name: string): Promise<string> => (await readText(join(folder, name))) ?? ''
  const ca = await Promise.all(names.filter((name) => name.endsWith('.crt')).map(pem))
  const keyOf = (name: string): string => name.replace(/cert$/, 'key')
  const pairs = names.filter((name) => name.endsWith('.cert') && names.includes(keyOf(name)))
  const clients = await Promise.all(
    pairs.map(async (name) => ({ certificate: await pem(name), key: await pem(keyOf(name)) })),
  )
  return ca.length + clients.length > 0 ? { ...PLAIN_DIAL, ca, clients } : undefined
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    if (isAbsent(error)) return false
    throw error
  }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const found = await stat(path)
    if (!found.isFile() || found.size > MAX_FILE_BYTES)
      throw new Fault('failed-precondition', `Cannot use ${path}: no file of at most ${MAX_FILE_BYTES} bytes`)
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isAbsent(error)) return undefined
    if (!(error instanceof Error) || !('code' in error)) throw error
    throw error instanceof Fault
      ? error
      : new Fault('failed-precondition', `Cannot read ${path}: ${String(error.code)}`, { cause: error })
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}
