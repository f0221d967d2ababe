import { Fault } from '@gantry/model/fault'
import { parseFile } from '@gantry/service/config'
import { z } from 'zod'
import type { Caller } from './caller.ts'
import type { Kind } from './methods.ts'

const ROOT = 0
/** Where names of groups have their numbers. */
export const GROUPS_FILE = '/etc/group'
const MAX_GLOB = 128 // characters

const Rule = z
  .strictObject({
    /** A group of the process at the other end of the unix socket: its name or its number. */
    group: z.union([z.string().min(1), z.int().min(0)]).optional(),
    /** Common name of the subject of a client certificate. */
    cn: z.string().min(1).optional(),
    /** A name of type URI of a client certificate. */
    uri: z.string().min(1).optional(),
    /** SHA-256 of a client certificate as hex, with or without colons. */
    fingerprint: z
      .string()
      .transform((text) => text.replaceAll(':', '').toLowerCase())
      .refine((text) => /^[0-9a-f]{64}$/.test(text), 'must be the SHA-256 of a certificate: 64 hex digits')
      .optional(),
    namespaces: z
      .array(
        z
          .string()
          .max(MAX_GLOB)
          .regex(/^[A-Za-z0-9._*-]+$/, 'must be a name of a namespace, where * stands for anything'),
      )
      .min(1),
    access: z.enum(['read', 'write']),
    /** May pulls and pushes use what the node itself has to get into registries? */
    lend_credentials: z.boolean().default(false),
  })
  .refine(
    ({ group, cn, uri, fingerprint }) =>
      [group, cn, uri, fingerprint].filter((binding) => binding !== undefined).length === 1,
    'must name exactly one of group, cn, uri and fingerprint',
  )
  .refine(
    ({ access, lend_credentials }) => access === 'write' || !lend_credentials,
    'cannot lend credentials to somebody who may only read',
  )

/** The policy file: nobody but root on the unix socket may do anything that no rule allows. */
const File = z.strictObject({ allow: z.array(Rule).default([]) })

/** What one caller may do. */
export interface Rights {
  /** Anything, in all namespaces and beyond them. */
  readonly everything: boolean
  /** Is there any namespace in which it may? */
  readonly some: Readonly<Record<Kind, boolean>>
  may(namespace: string, kind: Kind): boolean
  /** May it use the node's own credentials for registries there? */
  lends(namespace: string): boolean
}

export interface Policy {
  rightsOf(caller: Caller): Rights
}

const EVERYTHING: Rights = { everything: true, some: { read: true, write: true }, may: () => true, lends: () => true }

/** Without a policy file whoever can connect may do anything, as with containerd. */
export const OPEN: Policy = { rightsOf: () => EVERYTHING }

/**
 * @param groups the text of /etc/group, for the numbers of groups that are named
 * @throws {Fault} `invalid-argument` with one clear line
 */
export function parsePolicy(file: string, text: string, groups: string): Policy {
  const rules = parseFile(File, file, text).allow.map((rule) => ({
    matches: matcherOf(rule, (name) => gidOf(name, groups, file)),
    namespaces: rule.namespaces.map(globOf),
    all: rule.namespaces.includes('*'),
    kind: rule.access,
    lends: rule.lend_credentials,
  }))

  function rightsOf(caller: Caller): Rights {
    if (caller.kind === 'local' && caller.uid === ROOT) return EVERYTHING
    const own = rules.filter(({ matches }) => matches(caller))
    if (own.some(({ all, kind }) => all && kind === 'write')) return EVERYTHING
    const writing = own.filter(({ kind }) => kind === 'write')
    const within = { read: own, write: writing } // who may write may read
    const lending = own.filter(({ lends }) => lends)
    const among = (some: typeof own, namespace: string) =>
      some.some(({ namespaces }) => namespaces.some((glob) => glob.test(namespace)))
    return {
      everything: false,
      some: { read: own.length > 0, write: writing.length > 0 },
      may: (namespace, kind) => among(within[kind], namespace),
      lends: (namespace) => among(lending, namespace),
    }
  }

  return { rightsOf }
}

function matcherOf(
  { group, cn, uri, fingerprint }: z.infer<typeof Rule>,
  lookUp: (name: string) => number,
): (caller: Caller) => boolean {
  if (group !== undefined) {
    const gid = typeof group === 'number' ? group : lookUp(group)
    return (caller) => caller.kind === 'local' && (caller.gid === gid || caller.groups.includes(gid))
  }
  return (caller) => {
    if (caller.kind !== 'remote') return false
    if (cn !== undefined) return caller.cn === cn
    if (uri !== undefined) return caller.uris.includes(uri)
    return caller.fingerprint === fingerprint
  }
}

/** The number of a group. @throws {Fault} `invalid-argument` for one that this host does not have */
export function gidOf(name: string, groups: string, file: string): number {
  for (const line of groups.split('\n')) {
    const [group, , gid] = line.split(':')
    if (group === name && /^\d+$/.test(gid ?? '')) return Number(gid)
  }
  throw new Fault(
    'invalid-argument',
    `Cannot use ${file}: there is no group "${name}" in ${GROUPS_FILE}; make it, or give its number`,
  )
}

/** Only `*` means anything but itself. */
function globOf(text: string): RegExp {
  const parts = text.split('*').map((part) => part.replaceAll('.', '\\.'))
  return new RegExp(`^${parts.join('.*')}$`)
}
