import { Fault } from '@gantry/model/fault'
import { runHelper } from './credential-helper.ts'
import { type DockerConfig, isSameServer, readDockerConfig, serverKey, writeDockerConfig } from './docker-config.ts'

/** What lets a user into a registry. */
export interface Credentials {
  /** `''`: the secret is an identity token. */
  readonly username: string
  readonly secret: string
}

/** Credentials and where they lie, for people: a file or a helper. */
export interface Found extends Credentials {
  readonly from: string
}

/** The credentials of one user, in Docker's config.json and the helpers that it names. */
export interface Keyring {
  /** @throws {Fault} `failed-precondition` naming the file or helper that cannot be used */
  find(host: string, signal: AbortSignal): Promise<Found | undefined>
  /** Replaces what is known of the host. @returns where it is now */
  store(host: string, credentials: Credentials, signal: AbortSignal): Promise<string>
  /** @returns where it was, undefined when nothing was known of the host */
  erase(host: string, signal: AbortSignal): Promise<string | undefined>
}

export interface KeyringParts {
  /** Docker's config.json; it need not exist. */
  readonly file: string
  /** The environment of helpers; their programs are looked for in its PATH. */
  readonly env: Readonly<Record<string, string | undefined>>
}

/** The file is read anew for each question, so that a login elsewhere counts at once. */
export function createKeyring({ file, env }: KeyringParts): Keyring {
  return {
    async find(host, signal) {
      const config = readDockerConfig(file)
      const name = helperFor(config, host)
      const kept = name === undefined ? undefined : await ask({ name, host, env }, signal)
      return kept ?? inFile(config, host, file)
    },
    async store(host, credentials, signal) {
      const config = readDockerConfig(file)
      const name = helperFor(config, host)
      if (name !== undefined) {
        const { username, secret } = credentials
        const input = JSON.stringify({ ServerURL: serverKey(host), Username: username || '<token>', Secret: secret })
        await runHelper({ name, action: 'store', input, env }, signal)
      }
      const entry = name === undefined ? entryOf(credentials) : {} // the name alone: that is how Docker lists helpers' hosts
      await writeDockerConfig(file, { ...config.all, auths: { ...without(config, host), [serverKey(host)]: entry } })
      return name === undefined ? file : `docker-credential-${name}`
    },
    async erase(host, signal) {
      const config = readDockerConfig(file)
      const name = helperFor(config, host)
      const kept = name === undefined ? undefined : await ask({ name, host, env }, signal)
      if (name !== undefined) await runHelper({ name, action: 'erase', input: serverKey(host), env }, signal)
      const auths = without(config, host)
      const listed = Object.keys(auths).length < Object.keys(config.auths).length
      if (listed) await writeDockerConfig(file, { ...config.all, auths })
      return kept?.from ?? (listed ? file : undefined)
    },
  }
}

function helperFor({ credHelpers, credsStore }: DockerConfig, host: string): string | undefined {
  return Object.entries(credHelpers).find(([key]) => isSameServer(key, host))?.[1] ?? credsStore
}

async function ask(
  { name, host, env }: { name: string; host: string; env: KeyringParts['env'] },
  signal: AbortSignal,
): Promise<Found | undefined> {
  const output = await runHelper({ name, action: 'get', input: serverKey(host), env }, signal)
  if (output === undefined) return undefined
  const { Username: username, Secret: secret } = parseAnswer(output, name)
  if (typeof username !== 'string' || typeof secret !== 'string')
    throw new Fault('failed-precondition', `Cannot get credentials with docker-credential-${name}: it answers nonsense`)
  if (secret === '') return undefined
  return { username: username === '<token>' ? '' : username, secret, from: `docker-credential-${name}` }
}

function parseAnswer(output: string, name: string): Record<string, unknown> {
  try {
    return { ...JSON.parse(output) }
  } catch {
    throw new Fault('failed-precondition', `Cannot get credentials with docker-credential-${name}: it answers nonsense`)
  }
}

function inFile({ auths }: DockerConfig, host: string, file: string): Found | undefined {
  const same = Object.keys(auths).filter((key) => isSameServer(key, host))
  const [key] = same.includes(serverKey(host)) ? [serverKey(host)] : same
  if (key === undefined) return undefined
  const { identitytoken: token, auth, username, password } = auths[key] ?? {}
  if (typeof token === 'string' && token !== '') return { username: '', secret: token, from: file }
  if (typeof auth === 'string' && auth !== '') {
    const [, user = '', secret = ''] = /^([^:]+):([^\0]*)/.exec(Buffer.from(auth, 'base64').toString()) ?? []
    if (secret === '') throw new Fault('failed-precondition', `Cannot use ${file}: the entry of ${host} is malformed`)
    return { username: user, secret, from: file }
  }
  return typeof username === 'string' && typeof password === 'string' && password !== ''
    ? { username, secret: password, from: file }
    : undefined
}

function entryOf({ username, secret }: Credentials): Record<string, string> {
  if (username === '') return { identitytoken: secret }
  return { auth: Buffer.from(`${username}:${secret}`).toString('base64') }
}

function without({ auths }: DockerConfig, host: string): Record<string, unknown> {
  return Object.fromEntries(Object.entries(auths).filter(([key]) => !isSameServer(key, host)))
}
