import { readFileSync, realpathSync, statSync } from 'node:fs'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Fault } from '@gantry/model/fault'

const MAX_BYTES = 1024 * 1024
const DOCKER_KEY = 'https://index.docker.io/v1/' // how Docker's own registry is filed

/** The parts of Docker's config.json that are about credentials; all else is kept as it is. */
export interface DockerConfig {
  readonly auths: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly credHelpers: Readonly<Record<string, string>>
  readonly credsStore: string | undefined
  /** The whole document. */
  readonly all: Readonly<Record<string, unknown>>
}

/** Where Docker's file is for a user; undefined for one without a home. */
export function dockerConfigFile(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const folder = env.DOCKER_CONFIG || (env.HOME ? join(env.HOME, '.docker') : '')
  return folder === '' ? undefined : join(folder, 'config.json')
}

/** What a host is called in the file and by helpers. */
export function serverKey(host: string): string {
  return nameOf(host) === 'docker.io' ? DOCKER_KEY : host
}

/** Are both names for the same host? `https://index.docker.io/v1/` and `docker.io` are. */
export function isSameServer(a: string, b: string): boolean {
  return nameOf(a) === nameOf(b)
}

function nameOf(key: string): string {
  const host = key
    .replace(/^https?:\/\//, '')
    .replace(/\/.*$/, '')
    .toLowerCase()
  return ['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'].includes(host) ? 'docker.io' : host
}

/**
 * Reads the file; one that is not there says nothing.
 *
 * @throws {Fault} `failed-precondition` naming the file, never what stands in it
 */
export function readDockerConfig(file: string): DockerConfig {
  const all = objectOf(parse(file, read(file)))
  return {
    all,
    auths: Object.fromEntries(Object.entries(objectOf(all.auths)).map(([key, value]) => [key, objectOf(value)])),
    credHelpers: stringsOf(objectOf(all.credHelpers)),
    credsStore: typeof all.credsStore === 'string' && all.credsStore !== '' ? all.credsStore : undefined,
  }
}

/** Replaces the file as a whole, mode 0600; through a symbolic link when it is one. */
export async function writeDockerConfig(file: string, all: Readonly<Record<string, unknown>>): Promise<void> {
  const target = realPath(file)
  await mkdir(dirname(target), { recursive: true, mode: 0o700 })
  const next = `${target}.${process.pid}.tmp`
  try {
    const handle = await open(next, 'wx', 0o600)
    try {
      await handle.writeFile(`${JSON.stringify(all, null, '\t')}\n`)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(next, target)
  } catch (error) {
    await rm(next, { force: true })
    throw new Fault('failed-precondition', `Cannot write ${target}: ${codeOf(error)}`, { cause: error })
  }
}

function read(file: string): string {
  try {
    const found = statSync(file)
    if (!found.isFile() || found.size > MAX_BYTES)
      throw new Fault('failed-precondition', `Cannot read ${file}: no file of at most ${MAX_BYTES} bytes`)
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof Fault) throw error
    if (['ENOENT', 'ENOTDIR'].includes(codeOf(error))) return ''
    throw new Fault('failed-precondition', `Cannot read ${file}: ${codeOf(error)}`, { cause: error })
  }
}

function parse(file: string, text: string): unknown {
  if (text.trim() === '') return {}
  try {
    return JSON.parse(text)
  } catch {
    throw new Fault('failed-precondition', `Cannot read ${file}: it is not JSON`) // the parser's error quotes the file
  }
}

function realPath(file: string): string {
  try {
    return realpathSync(file)
  } catch {
    return file
  }
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

function stringsOf(value: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, text]) => (typeof text === 'string' ? [[key, text]] : [])),
  )
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error)
}
