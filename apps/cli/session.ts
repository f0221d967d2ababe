import { existsSync } from 'node:fs'
import { createClient, type GantryClient } from '@gantry/client/client'
import { Fault } from '@gantry/model/fault'
import { readKeys, type TlsKeys } from '@gantry/rpc/tls'
import type { Command } from 'commander'
import type { Context } from './context.ts'
import { type Globals, globalsOf } from './globals.ts'

/** What a command works with: a client of the chosen node and namespace. */
export interface Session extends Context, AsyncDisposable {
  readonly client: GantryClient
  readonly address: string
  readonly namespace: string
  readonly json: boolean
  /** Aborted by SIGINT, SIGTERM or SIGHUP, and when standard output takes nothing more, until `releaseSignals`. */
  readonly signal: AbortSignal
  /** From now on signals, and a broken output, are the business of the caller. */
  releaseSignals(): void
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Opens the node that options and environment name.
 *
 * @throws {Fault} `unavailable` at once when there is no socket, `invalid-argument` for a malformed namespace or TLS that lacks a file
 */
export function openSession(command: Command, context: Context): Session {
  const { address, namespace, tls, json } = globalsOf(command, context)
  const remote = address.startsWith('tcp://')
  const client = createClient({ address, namespace, ...(remote && { tls: readTls(tls) }) })
  if (!remote && !existsSync(address))
    throw new Fault('unavailable', `Cannot reach "${address}": there is no such socket`)
  const interrupt = new AbortController()
  const abort = (): void => interrupt.abort()
  const { env, stdout, stderr } = context
  const releaseSignals = (): void => {
    for (const name of SIGNALS) process.off(name, abort)
    stdout.off('error', abort)
  }
  for (const name of SIGNALS) process.on(name, abort)
  stdout.on('error', abort)
  return {
    ...{ env, stdout, stderr },
    get stdin() {
      return context.stdin // opened when first touched
    },
    ...{ client, address, namespace, json, signal: interrupt.signal, releaseSignals },
    async [Symbol.asyncDispose]() {
      releaseSignals()
      await client[Symbol.asyncDispose]()
    },
  }
}

/** The client names the server by its address, which node does not like where that is a number. */
function readTls(tls: Globals['tls']): TlsKeys {
  process.noDeprecation = true
  for (const what of ['ca', 'cert', 'key'] as const)
    if (tls[what] === '')
      throw new Fault('invalid-argument', `Cannot use TCP without --tls-${what} (or GANTRY_TLS_${what.toUpperCase()})`)
  return readKeys(tls)
}

/** @param what of a container is read as a file of the node @throws {Fault} `failed-precondition` over TCP */
export function refuseRemote({ address }: Pick<Session, 'address'>, what: string): void {
  if (address.startsWith('tcp://'))
    throw new Fault('failed-precondition', `Cannot read ${what} over TCP: its files are on the node, look there`)
}

/** Writes one document for machines. */
export function printJson({ stdout }: Pick<Context, 'stdout'>, value: unknown): void {
  stdout.write(`${toJsonText(value)}\n`)
}

export function toJsonText(value: unknown, indent = 0): string {
  const text = JSON.stringify(value, (_key, part) => (typeof part === 'bigint' ? Number(part) : part), indent)
  return text.replace(/[\u007f-\u009f]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`) // for terminals
}
