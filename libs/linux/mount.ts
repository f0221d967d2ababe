import { closeSync, constants, openSync, readFileSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { openLoop } from './loop.ts'
import { openMountTree } from './mount-tree.ts'
import { declare, declareBlocking, isSystemError } from './system.ts'
import { openUserNamespace, parseIdRanges } from './user-namespace.ts'

/** What to mount where, in the form containerd's API gives it: `options` are flags (`ro`, `rbind`) and data (`a=b`). */
export interface Mount {
  /** `bind`, `overlay`, `tmpfs`, ...; `bind` and `rbind` in the options say the same. */
  readonly type: string
  readonly source: string
  readonly target: string
  readonly options: readonly string[]
}

const MS_RDONLY = 1
const MS_REMOUNT = 0x20
const MS_BIND = 0x1000
const MS_REC = 0x4000
const MS_RELATIME = 0x200000
const MS_PROPAGATION = 0x1e0000 // unbindable, private, slave, shared

/** Flags of mount(2) as attributes of a mount. */
const ATTRIBUTES = [
  [MS_RDONLY, 0x1],
  [0x2, 0x2], // nosuid
  [0x4, 0x4], // nodev
  [0x8, 0x8], // noexec
  [0x400, 0x10], // noatime
  [0x800, 0x80], // nodiratime
  [0x1000000, 0x20], // strictatime
] as const
const MOUNT_ATTR__ATIME = 0x70 // a field of its own: to set one of its values, all are cleared; 0 is relatime

const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8

/** The kernel copies one page of option text and silently no more. */
const MAX_DATA = 4095 // bytes, without the NUL
const O_PATH = 0o10000000

/** Options that set (`on`) or clear (`off`) a flag; every other one is text for the file system. */
const FLAGS = new Map<string, { readonly on: number; readonly off: number }>(
  [
    { on: MS_RDONLY, names: ['ro'], opposite: ['rw'] },
    { on: 0x2, names: ['nosuid'], opposite: ['suid'] },
    { on: 0x4, names: ['nodev'], opposite: ['dev'] },
    { on: 0x8, names: ['noexec'], opposite: ['exec'] },
    { on: 0x10, names: ['sync'], opposite: ['async'] },
    { on: MS_REMOUNT, names: ['remount'], opposite: [] },
    { on: 0x40, names: ['mand'], opposite: ['nomand'] },
    { on: 0x80, names: ['dirsync'], opposite: [] },
    { on: 0x400, names: ['noatime'], opposite: ['atime'] },
    { on: 0x800, names: ['nodiratime'], opposite: ['diratime'] },
    { on: MS_BIND, names: ['bind'], opposite: [] },
    { on: MS_BIND | MS_REC, names: ['rbind'], opposite: [] },
    { on: 0x20000, names: ['unbindable'], opposite: [] },
    { on: 0x20000 | MS_REC, names: ['runbindable'], opposite: [] },
    { on: 0x40000, names: ['private'], opposite: [] },
    { on: 0x40000 | MS_REC, names: ['rprivate'], opposite: [] },
    { on: 0x80000, names: ['slave'], opposite: [] },
    { on: 0x80000 | MS_REC, names: ['rslave'], opposite: [] },
    { on: 0x100000, names: ['shared'], opposite: [] },
    { on: 0x100000 | MS_REC, names: ['rshared'], opposite: [] },
    { on: MS_RELATIME, names: ['relatime'], opposite: ['norelatime'] },
    { on: 0x1000000, names: ['strictatime'], opposite: ['nostrictatime'] },
    { on: 0x2000000, names: ['lazytime'], opposite: ['nolazytime'] },
    { on: 0, names: ['defaults'], opposite: [] },
  ].flatMap(({ on, names, opposite }) => [
    ...names.map((name) => [name, { on, off: 0 }] as const),
    ...opposite.map((name) => [name, { on: 0, off: on }] as const),
  ]),
)

const sysMount = declare(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
)
const sysUmount = declare('int umount2(const char *target, int flags)')
const sysUmountBlocking = declareBlocking('int umount2(const char *target, int flags)')

/**
 * Mounts `what`. Options that the kernel does not know are done here, as containerd's own mounting does: `loop` makes a block
 * device of the source, `uidmap=` with `gidmap=` (`<inside>:<outside>:<length>[,...]`) maps the ids of a bind mount, or of the
 * lower layers of an overlay. When a later call fails, the mount is taken away again.
 *
 * @param what.target may be a descriptor of a folder under `/proc/self/fd`
 * @throws {SystemError} `ENOENT`, `EPERM`, `EINVAL`, ... from mount(2) and its kin
 * @throws {Fault} `invalid-argument` when the options do not fit in the page that the kernel reads, or a text holds a NUL
 */
export function mount(what: Mount): void {
  if ([what.type, what.source, what.target, ...what.options].some((text) => text.includes('\0')))
    throw new Fault('invalid-argument', `Cannot mount ${JSON.stringify(what.source)}: it holds a NUL`) // C would read less
  const { plain, loop, mapping } = takeOwn(what.type === 'bind' ? ['bind', ...what.options] : what.options)
  const { flags, data } = parseOptions(plain)
  using users = mapping && openUserNamespace(parseIdRanges(mapping.uids), parseIdRanges(mapping.gids))
  using device = loop ? openLoop(what.source, { readOnly: (flags & MS_RDONLY) !== 0 }) : undefined
  const source = device?.path ?? what.source
  if (isBind(flags)) bind({ ...what, source }, flags, users?.fd)
  else if (!users) mountNew({ ...what, source }, flags, data)
  else if (what.type === 'overlay') mountOnMapped({ ...what, options: plain }, users.fd)
  else throw new Fault('invalid-argument', `Cannot map the ids of a file system of type "${what.type}"`)
}

function isBind(flags: number): boolean {
  return (flags & MS_BIND) !== 0 && (flags & MS_REMOUNT) === 0
}

/** Flags and ids are settled before anybody sees the mount. Propagation is not the parent's only when set after. */
function bind({ source, target }: Mount, flags: number, userNamespace: number | undefined): void {
  const recursive = (flags & MS_REC) !== 0
  using tree = openMountTree(source, recursive)
  if (userNamespace !== undefined) tree.change({ userNamespace, recursive })
  const { set, clear } = attributesOf(flags)
  if (set !== 0 || clear !== 0) tree.change({ set, clear, recursive: false })
  tree.attach(target)
  const propagation = flags & MS_PROPAGATION
  if (propagation !== 0) tree.change({ propagation, recursive })
}

function attributesOf(flags: number): { readonly set: number; readonly clear: number } {
  let set = 0
  for (const [flag, attribute] of ATTRIBUTES) if ((flags & flag) !== 0) set |= attribute
  const changesAtime = (set & MOUNT_ATTR__ATIME) !== 0 || (flags & MS_RELATIME) !== 0
  return { set, clear: changesAtime ? MOUNT_ATTR__ATIME : 0 }
}

/**
 * An overlay whose lower layers are seen with mapped ids. The folder they share is mounted on the target with its ids mapped,
 * the overlay over it, and then a copy of the overlay in the place of both: a crash leaves mounts only where the caller looks.
 */
function mountOnMapped(what: Mount, userNamespace: number): void {
  const { flags, data } = parseOptions(what.options)
  const lower = data.find((option) => option.startsWith('lowerdir='))?.slice('lowerdir='.length)
  if (lower === undefined) throw new Fault('invalid-argument', 'Cannot map the ids of an overlay: it has no lowerdir')
  const target = realpathSync(what.target) // a descriptor would not lead to what is mounted on it
  const shared = commonFolder(lower.split(':'))
  using below = openMountTree(shared, false)
  below.change({ userNamespace, recursive: false })
  below.attach(target)
  let mounted = 1
  try {
    const short = data.map((option) => shorten(option, shared, `/proc/self/fd/${below.fd}`))
    mountNew({ ...what, target }, flags, short)
    mounted = 2
    using tree = openMountTree(target, false)
    for (; mounted > 0; mounted--) unmount(target, { detach: true })
    tree.attach(target)
  } catch (error) {
    for (; mounted > 0; mounted--) unmount(target, { detach: true })
    throw error
  }
}

/** Propagation takes a call of its own: the kernel ignores it in the first. */
function mountNew(what: Mount, flags: number, data: readonly string[]): void {
  using text = fitted(data)
  const plain = flags & ~MS_PROPAGATION
  const changesOnly = (flags & MS_PROPAGATION) !== 0 && (plain & ~MS_REC) === 0 && what.type === ''
  if (!changesOnly) sysMount(what.target, what.source, what.target, what.type, plain, text.value)
  if ((flags & MS_PROPAGATION) === 0) return
  try {
    sysMount(what.target, '', what.target, '', flags & (MS_PROPAGATION | MS_REC), null)
  } catch (error) {
    if (!changesOnly) unmount(what.target, { detach: true })
    throw error
  }
}

interface OwnOptions {
  readonly plain: readonly string[]
  readonly loop: boolean
  readonly mapping: { readonly uids: string; readonly gids: string } | undefined
}

/** Takes out what is not the kernel's. Ids are mapped only when both kinds are. */
function takeOwn(options: readonly string[]): OwnOptions {
  const textOf = (name: string): string | undefined =>
    options.find((option) => option.startsWith(name))?.slice(name.length)
  const [uids, gids] = [textOf('uidmap='), textOf('gidmap=')]
  const plain = options.filter((option) => option !== 'loop' && !/^[ug]idmap=/.test(option))
  const mapping = uids !== undefined && gids !== undefined ? { uids, gids } : undefined
  return { plain, loop: options.includes('loop'), mapping }
}

/**
 * Takes the topmost mount off `target`, which is not followed when it is a link. With `detach` it leaves the tree at once and
 * goes when its last user does.
 * @throws {SystemError} `EINVAL` when nothing is mounted there, `EBUSY` when it is in use, `ENOENT`
 */
export function unmount(target: string, options: { readonly detach?: boolean } = {}): void {
  sysUmount(target, target, UMOUNT_NOFOLLOW | (options.detach ? MNT_DETACH : 0))
}

/**
 * Takes all mounts off `target` that are stacked on it; they go when their last users do. To take an overlay down, the kernel
 * writes all of the file system below it to the disk first: that wait is a pool thread's. Nothing mounted, or no such path, is
 * well.
 */
export async function unmountWaiting(target: string): Promise<void> {
  await sysUmountBlocking(target, UMOUNT_NOFOLLOW | MNT_DETACH) // whether it could, the next line says
  unmountAll(target, { detach: true })
}

/** Takes all mounts off `target` that are stacked on it. Nothing mounted, or no such path, is well. */
export function unmountAll(target: string, options: { readonly detach?: boolean } = {}): void {
  try {
    for (;;) unmount(target, options)
  } catch (error) {
    if (!isSystemError(error, 'EINVAL', 'ENOENT')) throw error
  }
}

/**
 * The mount points at and below `path`, the latest mounted first: the order in which they can be unmounted. They are as the
 * kernel knows them: links on the way to `path` are followed.
 */
export function mountsUnder(path: string): string[] {
  const top = realPathOf(path)
  return parseMountPoints(readFileSync('/proc/self/mountinfo', 'utf8'))
    .filter((point) => point === top || point.startsWith(top === '/' ? '/' : `${top}/`))
    .reverse()
}

/** Its last part is not looked at: what is mounted there may not answer. */
function realPathOf(path: string): string {
  try {
    return join(realpathSync(dirname(path)), basename(path))
  } catch (error) {
    if (isSystemError(error)) return path
    throw error
  }
}

/** The mount points of a mountinfo table, oldest first. */
export function parseMountPoints(table: string): string[] {
  const points = table.split('\n').map((line) => line.split(' ', 5)[4])
  return points
    .filter((point) => point !== undefined)
    .map((point) =>
      point.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    )
}

/** Parts options into the flags of mount(2) and the text for the file system; the later of two opposites wins. */
export function parseOptions(options: readonly string[]): { readonly flags: number; readonly data: readonly string[] } {
  let flags = 0
  const data: string[] = []
  for (const option of options) {
    const flag = FLAGS.get(option)
    if (flag) flags = (flags & ~flag.off) | flag.on
    else if (option !== '') data.push(option)
  }
  return { flags, data }
}

interface Data extends Disposable {
  readonly value: string | null
}

/**
 * The option text, shortened when it would not fit: the folders of a long `lowerdir` are then named through a descriptor of
 * the folder they share. Such names are read once, by the mount, so the descriptor is closed after it.
 */
function fitted(data: readonly string[]): Data {
  const value = data.join(',')
  if (Buffer.byteLength(value) <= MAX_DATA) return { value: value === '' ? null : value, [Symbol.dispose]() {} }
  const lower = data.find((option) => option.startsWith('lowerdir='))?.slice('lowerdir='.length)
  const shared = lower === undefined ? '/' : commonFolder(lower.split(':'))
  const fd = openSync(shared, O_PATH | constants.O_DIRECTORY)
  const short = data.map((option) => shorten(option, shared, `/proc/self/fd/${fd}`)).join(',')
  const data_ = { value: short, [Symbol.dispose]: () => closeSync(fd) }
  if (Buffer.byteLength(short) <= MAX_DATA) return data_
  data_[Symbol.dispose]()
  throw new Fault(
    'invalid-argument',
    `Cannot mount: the options take ${short.length} bytes and ${MAX_DATA} is the most`,
  )
}

/** The deepest folder above all of these paths; the root when one of them is not absolute: it has no end going up. */
export function commonFolder(paths: readonly string[]): string {
  if (!paths.every((path) => path.startsWith('/'))) return '/'
  let shared = dirname(paths[0] ?? '/')
  while (shared !== '/' && !paths.every((path) => path.startsWith(`${shared}/`))) shared = dirname(shared)
  return shared
}

function shorten(option: string, from: string, to: string): string {
  if (!option.startsWith('lowerdir=')) return option
  const paths = option.slice('lowerdir='.length).split(':')
  return `lowerdir=${paths.map((path) => (path.startsWith(`${from}/`) ? to + path.slice(from.length) : path)).join(':')}`
}
