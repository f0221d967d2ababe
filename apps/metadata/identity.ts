import { randomUUID } from 'node:crypto'
import { readlinkSync } from 'node:fs'
import type { Changes } from '@gantry/service/changes'
import type { Rows } from './rows.ts'

/** Who this installation is, as clients ask through Introspection.Server. */
export interface Identity {
  /** Made at the first start and kept with the records. */
  readonly uuid: string
  readonly pid: bigint
  /** Inode of the process id namespace, so that a client knows whether `pid` means anything to it; 0 when unknown. */
  readonly pidns: bigint
}

/** Reads the identity, and makes the lasting part of it at the first start. */
export async function openIdentity(rows: Rows, changes: Changes): Promise<Identity> {
  const uuid = await changes.write(() => {
    const known = rows.identity.get(['uuid'])
    if (known !== undefined) return known
    const made = randomUUID()
    rows.identity.put(['uuid'], made)
    return made
  })
  return { uuid, pid: BigInt(process.pid), pidns: inodeOf(readlinkSync('/proc/self/ns/pid')) }
}

/** The number in what a namespace link reads, `pid:[4026531836]`. */
export function inodeOf(link: string): bigint {
  return BigInt(/\[(\d+)\]$/.exec(link)?.[1] ?? 0)
}
