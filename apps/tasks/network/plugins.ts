import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import type { PublishedPort } from '@gantry/model/network'
import { z } from 'zod'
import { runToEnd } from '../child.ts'
import type { Definition, Plugin } from './definition.ts'

const PLUGIN_MS = 30_000 // a plugin that takes longer hangs
const MAX_OUTPUT = 256 * 1024 // bytes

/** What is given to each plugin of a network. */
export interface Attachment {
  readonly definition: Definition
  readonly containerId: string
  /** Path of the network namespace. */
  readonly netns: string
  readonly ports: readonly PublishedPort[]
}

export interface PluginHost {
  /** Folders of plugins, parted by colons. */
  readonly plugins: string
  readonly env: { readonly PATH: string }
}

const Result = z.looseObject({
  ips: z.array(z.looseObject({ address: z.string() })).default([]),
  dns: z
    .looseObject({ nameservers: z.array(z.string()).default([]), search: z.array(z.string()).default([]) })
    .optional(),
})
/** What a network has given; more than is named here is kept for the plugins. */
export type NetworkResult = z.infer<typeof Result>

const DEVICE = 'eth0'
const LOOPBACK: Plugin = { type: 'loopback' }

/**
 * Connects: each plugin gets the result of the one before, and all get the last one when they are to free what they made.
 *
 * @param keep is given the result after each plugin
 * @throws {Fault} with the plugin's own words
 */
export async function addNetwork(
  host: PluginHost,
  attachment: Attachment,
  keep: (result: NetworkResult) => void,
): Promise<NetworkResult> {
  await runPlugin(host, attachment, { command: 'ADD', plugin: LOOPBACK, device: 'lo' })
  let result: NetworkResult | undefined
  for (const plugin of attachment.definition.plugins) {
    result = Result.parse(await runPlugin(host, attachment, { command: 'ADD', plugin, device: DEVICE, result }))
    keep(result)
  }
  return Result.parse(result)
}

/** Disconnects, last plugin first. May be repeated, and after an `addNetwork` that failed half-way. */
export async function removeNetwork(host: PluginHost, attachment: Attachment, result?: NetworkResult): Promise<void> {
  for (const plugin of attachment.definition.plugins.toReversed())
    await runPlugin(host, attachment, { command: 'DEL', plugin, device: DEVICE, result })
}

interface Call {
  readonly command: 'ADD' | 'DEL'
  readonly plugin: Plugin
  readonly device: string
  readonly result?: NetworkResult | undefined
}

/** @see https://github.com/containernetworking/cni/blob/main/SPEC.md#section-2-execution-protocol */
async function runPlugin(host: PluginHost, attachment: Attachment, call: Call): Promise<unknown> {
  const { definition, containerId, netns, ports } = attachment
  const { capabilities, ...plugin } = call.plugin
  const { cniVersion, name } = definition
  const input = {
    ...{ cniVersion, name, ...plugin },
    ...(takesPorts(capabilities) && { runtimeConfig: { portMappings: ports.map(toMapping) } }),
    ...(call.result && { prevResult: call.result }),
  }
  const env = {
    ...{ PATH: host.env.PATH, CNI_COMMAND: call.command, CNI_CONTAINERID: containerId, CNI_NETNS: netns },
    ...{ CNI_IFNAME: call.device, CNI_PATH: host.plugins },
  }
  const { code, output, errors } = await runToEnd(findPlugin(host.plugins, plugin.type), [], {
    env,
    input: JSON.stringify(input),
    cwd: '/',
    maxBytes: MAX_OUTPUT,
    timeoutMs: PLUGIN_MS,
  })
  if (code !== 0)
    throw new Fault(
      'unknown',
      `Cannot ${call.command === 'ADD' ? 'make' : 'free'} the network ${name}: ${plugin.type}: ${wordsOf(output, errors, code)}`,
    )
  return output.trim() === '' ? {} : JSON.parse(output)
}

function findPlugin(folders: string, type: string): string {
  const found = folders
    .split(':')
    .map((folder) => join(folder, type))
    .find(isProgram)
  if (found !== undefined) return found
  throw new Fault(
    'failed-precondition',
    `Cannot make a network: install the CNI plugin ${type} in ${folders} (Debian: containernetworking-plugins)`,
  )
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function takesPorts(capabilities: unknown): boolean {
  return z.looseObject({ portMappings: z.literal(true) }).safeParse(capabilities).success
}

function toMapping({ hostIp, hostPort, containerPort, protocol }: PublishedPort): object {
  return { hostPort, containerPort, protocol, ...(hostIp !== '' && { hostIP: hostIp }) }
}

/** A plugin tells its error as JSON on its output. */
function wordsOf(output: string, errors: string, code: number | string): string {
  try {
    const { msg, details } = z
      .looseObject({ msg: z.string(), details: z.string().optional() })
      .parse(JSON.parse(output))
    return details ? `${msg}: ${details}` : msg
  } catch {
    return errors.trim().split('\n').at(-1) || `it ended with ${code}`
  }
}
