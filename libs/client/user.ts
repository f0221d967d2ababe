import { Fault } from '@gantry/model/fault'

/** The largest id; the one above means "no change" to the kernel. */
const MAX_ID = 4294967294
const MAX_GROUPS = 65536 // what the kernel takes for one process
const NUMBER = /^[+-]?[0-9]+$/

export interface ResolvedUser {
  readonly uid: number
  readonly gid: number
  /** All groups of the process, the primary one included. */
  readonly additionalGids: number[]
}

/** The texts of etc/passwd and etc/group inside the image; '' when it has none. */
export interface UserFiles {
  passwd(): Promise<string>
  group(): Promise<string>
}

interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

interface Group {
  readonly name: string
  readonly gid: number
  readonly members: readonly string[]
}

/**
 * Finds who a process runs as, from `uid`, `uid:gid`, `name` or `name:group`; '' is root. What looks like a number is a
 * number: out of range it is refused, never looked up as a name and never wrapped around to root. A uid that the image
 * does not list has gid 0.
 *
 * @throws {Fault} `invalid-argument` for a number out of range, `not-found` for an unknown name
 */
export async function resolveUser(text: string, files: UserFiles): Promise<ResolvedUser> {
  const [who = '', which, ...rest] = text === '' ? ['0'] : text.split(':')
  if (rest.length > 0 || who === '' || which === '' || /[\0\n]/.test(text))
    throw new Fault(
      'invalid-argument',
      `Cannot run as ${JSON.stringify(text.slice(0, 128))}: give uid, uid:gid, name or name:group`,
    )
  const uid = parseId(who, 'user')
  const accounts = parsePasswd(await files.passwd())
  const account = accounts.find((one) => (uid === undefined ? one.name === who : one.uid === uid))
  if (uid === undefined && !account)
    throw new Fault('not-found', `Cannot run as ${JSON.stringify(who.slice(0, 128))}: the image has no such user`)
  const groups = parseGroup(await files.group())
  const gid = which === undefined ? (account?.gid ?? 0) : groupId(which, groups)
  const member = account?.name
  // a group that is asked for stands alone, as with every other engine
  const further =
    which === undefined && member !== undefined
      ? groups.filter((group) => group.members.includes(member)).map((group) => group.gid)
      : []
  return { uid: uid ?? account?.uid ?? 0, gid, additionalGids: [...new Set([gid, ...further])].slice(0, MAX_GROUPS) }
}

/** Does finding this user need no look into the image? */
export function isNumeric(text: string): boolean {
  return text === '' || text.split(':').every((part) => NUMBER.test(part))
}

function groupId(which: string, groups: readonly Group[]): number {
  const gid = parseId(which, 'group') ?? groups.find((group) => group.name === which)?.gid
  if (gid === undefined)
    throw new Fault(
      'not-found',
      `Cannot run in group ${JSON.stringify(which.slice(0, 128))}: the image has no such group`,
    )
  return gid
}

/** The id a text means, `undefined` when it is a name. */
function parseId(text: string, what: string): number | undefined {
  if (!NUMBER.test(text)) return undefined
  const id = Number(text)
  if (!/^[0-9]+$/.test(text) || id > MAX_ID)
    throw new Fault('invalid-argument', `Cannot run as ${what} ${text.slice(0, 32)}: not between 0 and ${MAX_ID}`)
  return id
}

/** `name:password:uid:gid:...` lines; a line that is not one is skipped. */
function parsePasswd(text: string): Account[] {
  return rows(text).flatMap(([name = '', , uid = '', gid = '']) =>
    validId(uid) && validId(gid) ? [{ name, uid: Number(uid), gid: Number(gid) }] : [],
  )
}

/** `name:password:gid:member,member` lines. */
function parseGroup(text: string): Group[] {
  return rows(text).flatMap(([name = '', , gid = '', members = '']) =>
    validId(gid) ? [{ name, gid: Number(gid), members: members.split(',') }] : [],
  )
}

function rows(text: string): string[][] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'))
    .filter(([name]) => name !== '')
}

function validId(text: string): boolean {
  return /^[0-9]{1,10}$/.test(text) && Number(text) <= MAX_ID
}
