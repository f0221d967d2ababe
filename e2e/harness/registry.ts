/** Debian's docker-registry on a loopback port of its own, empty at start, gone at the end. */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, startDaemon, until } from './daemon.ts'
import { type Blob, type Image, indexOf } from './image.ts'

const ESTABLISHED = '01'
const LISTEN = '0A'

export interface Registry extends AsyncDisposable {
  /** host:port */
  readonly host: string
  /** Uploads an image and returns the reference to pull it by. */
  push(name: string, tag: string, image: Image): Promise<string>
  /** Uploads these images and an index that names each with its platform. */
  pushIndex(name: string, tag: string, images: Readonly<Record<string, Image>>): Promise<string>
  /** The requests it answered, one a line in the common log format; empty unless it was started with `requests`. */
  requests(): string
  /** Waits until it has noticed, and logged, that clients which died in the middle of an answer are gone. */
  settled(): Promise<void>
}

export interface RegistryOptions {
  /** where it keeps what is pushed, also after its end; a folder of its own unless told */
  readonly data?: string
  /** log the requests */
  readonly requests?: boolean
  /** lines of `name:bcrypt hash`: who is let in; everybody unless told */
  readonly users?: string
}

export async function startRegistry({ data, requests = false, users }: RegistryOptions = {}): Promise<Registry> {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-registry-'))
  const host = `127.0.0.1:${await freePort()}`
  const config = {
    version: '0.1',
    log: { level: 'error', accesslog: { disabled: !requests } },
    storage: { filesystem: { rootdirectory: data ?? join(dir, 'data') } },
    http: { addr: host },
    ...(users !== undefined && { auth: { htpasswd: { realm: 'here', path: join(dir, 'users') } } }),
  }
  if (users !== undefined) writeFileSync(join(dir, 'users'), users)
  writeFileSync(join(dir, 'config.yml'), JSON.stringify(config)) // JSON is YAML too
  const daemon = startDaemon(['docker-registry', 'serve', join(dir, 'config.yml')], { OTEL_TRACES_EXPORTER: 'none' })
  await until('the registry answers', async () => [200, 401].includes((await fetch(`http://${host}/v2/`)).status), {
    context: daemon.log,
  })

  return {
    ...openRegistry(host),
    requests: () => (requests ? daemon.log() : ''),
    settled: () => {
      let logged = -1
      return until('the registry noticed who is gone', () => {
        const before = logged
        logged = daemon.log().length
        return logged === before && everySocketIsAlive(daemon.pid)
      })
    },
    async [Symbol.asyncDispose]() {
      await daemon.stop('SIGKILL')
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** Whether nobody of whom the process still holds a TCP socket has closed or reset it. Source: proc(5), net/tcp. */
function everySocketIsAlive(pid: number): boolean {
  const states = ['tcp', 'tcp6'].flatMap((table) => readFileSync(`/proc/${pid}/net/${table}`, 'utf8').split('\n'))
  const alive = new Set(
    states
      .map((line) => line.trim().split(/\s+/))
      .filter(([, , , state]) => state === ESTABLISHED || state === LISTEN)
      .map((fields) => `socket:[${fields[9]}]`),
  )
  const files = readdirSync(`/proc/${pid}/fd`).filter((fd) => Number(fd) > 2) // its output is a socket too
  const open = files.map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
  return open.every((target) => !target.startsWith('socket:') || alive.has(target))
}

/** A registry somebody else started. */
export function openRegistry(host: string): Pick<Registry, 'host' | 'push' | 'pushIndex'> {
  async function push(name: string, tag: string, image: Image): Promise<string> {
    for (const blob of [image.config, ...image.layers]) await pushBlob(`http://${host}/v2/${name}`, blob)
    await pushManifest(`http://${host}/v2/${name}`, tag, image.manifest)
    return `${host}/${name}:${tag}`
  }
  return {
    host,
    push,
    async pushIndex(name, tag, images) {
      for (const image of Object.values(images)) await push(name, image.manifest.digest, image)
      await pushManifest(`http://${host}/v2/${name}`, tag, indexOf(images))
      return `${host}/${name}:${tag}`
    },
  }
}

export async function pushManifest(repository: string, tag: string, { mediaType, bytes }: Blob): Promise<void> {
  const body = Buffer.from(bytes)
  await expectOk(
    fetch(`${repository}/manifests/${tag}`, { method: 'PUT', headers: { 'content-type': mediaType }, body }),
  )
}

export async function pushBlob(repository: string, blob: Blob): Promise<void> {
  const start = await expectOk(fetch(`${repository}/blobs/uploads/`, { method: 'POST' }))
  const to = new URL(start.headers.get('location') ?? '', repository)
  to.searchParams.set('digest', blob.digest)
  await expectOk(
    fetch(to, {
      method: 'PUT',
      headers: { 'content-type': 'application/octet-stream' },
      body: Buffer.from(blob.bytes),
    }),
  )
}

async function expectOk(response: Promise<Response>): Promise<Response> {
  const { ok, status, url } = await response
  if (!ok) throw new Error(`The registry answered ${status} to ${url}: ${await (await response).text()}`)
  return response
}
