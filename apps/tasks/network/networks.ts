import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ensureBridge } from '@gantry/linux/bridge'
import { unmountAll } from '@gantry/linux/mount'
import { sendSignal } from '@gantry/linux/process'
import { Fault } from '@gantry/model/fault'
import type { NetworkRequest } from '@gantry/model/network'
import type { Process as Service } from '@gantry/service/process'
import { foldersIn } from '../bundle.ts'
import { workersWith } from '../workers.ts'
import { findNetwork, type NetworkConfig, parseDefinition } from './definition.ts'
import { hostsFile, resolvConf } from './names.ts'
import { type Attachment, addNetwork, type NetworkResult, type PluginHost, removeNetwork } from './plugins.ts'
import { checkClaims, checkListeners } from './ports.ts'

// <state>/networks/<namespace>/<id>/    0700, as long as something of the network may be there
//   plan.json                           what was asked of which network: written before anything is made, enough to free it
//   netns                               the network namespace, mounted here: it outlives the container's processes
//   result.json                         what the plugins gave
//   hosts, resolv.conf                  what the container sees in /etc
//
// Freed is: plugins asked to, namespace unmounted, folder gone. A crash before that leaves the folder, and the next start
// frees it. <state>/leases holds the addresses that are taken, so that a reboot forgets them.

const PASSES = 10 // over what plugins have started meanwhile
const SIGKILL = 9
const RETRIES = 3
const RETRY_MS = 1000

/** What a container of a network is given. */
export interface Joined {
  readonly netns: string
  /** Files for /etc, by their path in the container. */
  readonly files: Readonly<Record<string, string>>
}

/** The networks of containers, by CNI plugins. All calls for one container are done one after the other. */
export interface Networks {
  /** Makes a namespace and connects it. What fails leaves nothing. @throws {Fault} `not-found`, `failed-precondition`, `unknown` */
  attach(namespace: string, id: string, request: NetworkRequest, hostname: string): Promise<Joined>
  /** Frees whatever there is. What cannot be freed is tried again a few times, and at the next start. */
  detach(namespace: string, id: string): Promise<void>
  /** Frees the networks of all containers that do not run. */
  sweep(runs: (namespace: string, id: string) => boolean): Promise<void>
}

export interface NetworksParts extends PluginHost {
  readonly state: string
  readonly config: NetworkConfig
  readonly log: Service['log']
}

interface Plan extends Attachment {
  readonly folder: string
}

export function createNetworks(parts: NetworksParts): Networks {
  const { log } = parts
  const root = join(parts.state, 'networks')
  endOrphans(root)
  const claims = new Map(listPlans(root).map(({ key, plan }) => [key, plan?.ports ?? []]))
  const inOrder = createQueues()

  async function attach(namespace: string, id: string, request: NetworkRequest, hostname: string): Promise<Joined> {
    const key = `${namespace}/${id}`
    const folder = join(root, namespace, id)
    await free(parts, folder) // a crash may have left one
    claims.delete(key)
    const definition = findNetwork(request.name, parts.config)
    checkClaims(request.ports, claims)
    claims.set(key, request.ports)
    const plan: Plan = {
      folder,
      definition,
      containerId: `${namespace}--${id}`, // neither holds two of them, so no two containers share one
      netns: join(folder, 'netns'),
      ports: request.ports,
    }
    try {
      await checkListeners(request.ports)
      return await connect(parts, plan, request, hostname)
    } catch (error) {
      await free(parts, folder).catch((err) =>
        log.error({ err, task: id }, 'Cannot free a network that failed half-way'),
      )
      claims.delete(key)
      throw error
    }
  }

  async function detach(namespace: string, id: string): Promise<void> {
    const folder = join(root, namespace, id)
    for (let left = RETRIES; existsSync(folder); left--)
      try {
        await free(parts, folder)
      } catch (err) {
        log.error(
          { err, task: id },
          left > 1 ? 'Cannot free a network: trying again' : 'Cannot free a network: leaving it to the next start',
        )
        if (left <= 1) return
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref())
      }
    claims.delete(`${namespace}/${id}`)
  }

  return {
    attach: (namespace, id, ...rest) => inOrder(`${namespace}/${id}`, () => attach(namespace, id, ...rest)),
    detach: (namespace, id) =>
      existsSync(join(root, namespace, id)) || claims.has(`${namespace}/${id}`)
        ? inOrder(`${namespace}/${id}`, () => detach(namespace, id))
        : Promise.resolve(),
    async sweep(runs) {
      const stray = listPlans(root).filter(({ namespace, id }) => !runs(namespace, id))
      await Promise.all(stray.map(({ key, namespace, id }) => inOrder(key, () => detach(namespace, id))))
      if (stray.length > 0) log.info({ freed: stray.length }, 'Freed the networks of containers that ended')
    },
  }
}

/** Plugins of a run that was killed would go on making what is freed next, and nobody would free that. */
function endOrphans(root: string): void {
  for (let left = PASSES; left > 0; left--) {
    const orphans = workersWith(`CNI_NETNS=${root}/`)
    if (orphans.length === 0) return
    for (const orphan of orphans) sendSignal(orphan, SIGKILL)
  }
}

async function connect(parts: NetworksParts, plan: Plan, request: NetworkRequest, hostname: string): Promise<Joined> {
  const { folder, netns } = plan
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  mkdirSync(parts.config.leases, { recursive: true, mode: 0o700 })
  const { definition, containerId, ports } = plan
  write(folder, 'plan.json', JSON.stringify({ definition, containerId, ports }))
  await makeNamespace(netns, parts.env)
  const { bridge, subnet6 } = parts.config
  if (subnet6 !== undefined && definition.plugins.some((plugin) => plugin.bridge === bridge)) ensureBridge(bridge)
  const result = await addNetwork(parts, plan, (each) => write(folder, 'result.json', JSON.stringify(each)))
  const addresses = result.ips.map(({ address }) => address.replace(/\/.*/, ''))
  const network = { nameservers: result.dns?.nameservers ?? [], search: result.dns?.search ?? [] }
  write(folder, 'hosts', hostsFile(addresses, hostname, request.hosts))
  write(folder, 'resolv.conf', resolvConf(request, network))
  const files = { '/etc/hosts': join(folder, 'hosts'), '/etc/resolv.conf': join(folder, 'resolv.conf') }
  return { netns, files }
}

/** The plugins first, while the namespace is there for them to look into. */
async function free(parts: NetworksParts, folder: string): Promise<void> {
  if (!existsSync(folder)) return
  const plan = readPlan(folder)
  if (plan) await removeNetwork(parts, plan, readResult(folder))
  unmountAll(join(folder, 'netns'), { detach: true })
  rmSync(folder, { recursive: true, force: true })
}

/** A namespace without a process, held by its mount. A thread of ours may not leave its own: a child does it. */
async function makeNamespace(path: string, env: { readonly PATH: string }): Promise<void> {
  writeFileSync(path, '', { mode: 0o600 })
  try {
    await promisify(execFile)('unshare', [`--net=${path}`, 'true'], { env: { ...env } })
  } catch (cause) {
    throw new Fault('failed-precondition', 'Cannot make a network namespace: unshare of util-linux failed', { cause })
  }
}

/** A folder without a plan that can be read was cut short before anything was made. */
function readPlan(folder: string): Plan | undefined {
  try {
    const { definition, containerId, ports } = JSON.parse(readFileSync(join(folder, 'plan.json'), 'utf8'))
    return { folder, definition: parseDefinition(definition), containerId, netns: join(folder, 'netns'), ports }
  } catch {
    return undefined
  }
}

function readResult(folder: string): NetworkResult | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8'))
  } catch {
    return undefined
  }
}

function listPlans(root: string): { key: string; namespace: string; id: string; plan: Plan | undefined }[] {
  return foldersIn(root).flatMap((namespace) =>
    foldersIn(join(root, namespace)).map((id) => {
      const plan = readPlan(join(root, namespace, id))
      return { key: `${namespace}/${id}`, namespace, id, plan }
    }),
  )
}

/** Whole or not at all. */
function write(folder: string, name: string, text: string): void {
  const partial = join(folder, `.${name}`)
  writeFileSync(partial, text, { mode: 0o644 })
  renameSync(partial, join(folder, name))
}

/** One queue a key; a failure holds up nothing behind it. */
function createQueues(): <T>(key: string, work: () => Promise<T>) => Promise<T> {
  const tails = new Map<string, Promise<unknown>>()
  return (key, work) => {
    const run = (tails.get(key) ?? Promise.resolve()).then(work)
    const tail: Promise<unknown> = run.catch(() => undefined)
    tails.set(key, tail)
    void tail.then(() => {
      if (tails.get(key) === tail) tails.delete(key)
    })
    return run
  }
}
