/**
 * Values for the fields of requests: those that lead somewhere, those that are nearly right, and hostile ones.
 *
 * A request may make the node mount, run and remove things by design, so whatever names a place of the host is taken from
 * here and lies in the folder of the test. `canary` is a folder that no request names rightly: what happens to it came from a
 * name that was not checked.
 */
import fc from 'fast-check'

export interface Ground {
  readonly namespaces: readonly string[]
  /** a folder of its own file system that mounts may use, and change */
  readonly ground: string
  /** a folder that must stay as it is */
  readonly canary: string
  /** a path where nothing is, for what would be run */
  readonly nowhere: string
  /** one that leads to an image, and some that lead nowhere */
  readonly references: readonly string[]
  readonly digests: readonly string[]
  /** mounts of a snapshot with a whole root file system */
  readonly rootfs: readonly MountValue[]
  /** a specification that works, as JSON */
  readonly spec: string
  /** how many values are right for one that is odd */
  readonly tame: number
}

export interface MountValue {
  readonly type: string
  readonly source: string
  readonly target: string
  readonly options: readonly string[]
}

/** Names of everything that has one: containers, snapshots, leases, images, uploads. */
const IDS = ['c1', 'c2', 'k1', 'k2', 'base', 'live']

export const oneOf = (...values: readonly string[]) => fc.constantFrom(...values)
/** The words of a text, and further values. */
export const words = (text: string, ...more: readonly string[]) => fc.constantFrom(...text.split(' '), ...more)
/** Much of the first, little of the second. */
export const mostly = <T, U>(usual: fc.Arbitrary<T>, rare: fc.Arbitrary<U>, weight = 4) =>
  fc.oneof({ arbitrary: usual, weight }, { arbitrary: rare, weight: 1 })

const HOSTILE = `. .. ../.. / a/b a.> * > -x -- %2e%2e %s%n file 0 -1 null __proto__ constructor toString ü sha256: sha256:.. \
md5:d41d8cd98f00b204e9800998ecf8427e sha256:${'0'.repeat(64)} sha256:${'A'.repeat(64)} sha256:${'g'.repeat(64)} \
sha512:${'0'.repeat(64)} ${'x'.repeat(76)} ${'x'.repeat(77)} ${'x'.repeat(300)} ${'x'.repeat(5000)}`

const RANDOM = fc.oneof(fc.string({ maxLength: 12, unit: 'binary' }), fc.constant('y'.repeat(200_000))) // dear to make

/** Names that were not made for folders, keys of a store or subjects of a bus. */
export function hostileNames({ canary }: Pick<Ground, 'canary'>): fc.Arbitrary<string> {
  const up = `${'../'.repeat(16)}${canary.slice(1)}`
  const unprintable = ['', ' ', '\0', 'a\0b', '\n', 'a\nb', '\u{1F600}', '\u202e', '\ufeff']
  return mostly(words(HOSTILE, ...unprintable, canary, up, `a/${up}`, `${up}/file`), RANDOM, 20)
}

const LABELS = `a containerd.io/gc.root containerd.io/gc.ref.content containerd.io/gc.ref.snapshot.overlayfs containerd.io/gc.ref. \
containerd.io/gc.expire containerd.io/gc.flat containerd.io/gc.bref.container containerd.io/gc.cond.snapshot.native \
containerd.io/uncompressed containerd.io/snapshot.ref containerd.io/snapshot/uidmapping containerd.io/snapshot/gidmapping \
containerd.io/distribution.source.x containerd.io/namespace.shareable containerd.io/defaults/snapshotter __proto__ constructor`
const LABEL_VALUES = '1 true k1 base 0:0:65536 -1:x: now 2000-01-01T00:00:00Z 9999-99-99 usedat<1h|k1'

export const labelKey = (ground: Ground) => mostly(words(LABELS), hostileNames(ground))
export const labelValue = (ground: Ground) =>
  mostly(words(LABEL_VALUES, '', ...ground.digests), mostly(hostileNames(ground), fc.constant('v'.repeat(4096))))

/** Text for the field of that name. */
export function textFor(field: string, message: string, ground: Ground): fc.Arbitrary<string> {
  const guarded = GUARDED[`${message}.${field}`] ?? GUARDED[field]
  if (guarded) return guarded(ground)
  return mostly(USUAL[field]?.(ground) ?? oneOf(...IDS), hostileNames(ground), ground.tame)
}

type Choice = (ground: Ground) => fc.Arbitrary<string>

/** What names places and programs of the host: never anything but these. */
const GUARDED: Readonly<Record<string, Choice>> = {
  stdin: ({ ground, nowhere }) =>
    oneOf('', '', '', `${ground}/fifo`, `${ground}/none`, nowhere, 'relative', `fifo://${ground}/none`, '\0'),
  stdout: ({ ground, nowhere }) =>
    words(
      `file://${ground}/out file://${ground}/fifo ${ground}/fifo file://${ground}/a%2fb file:// file://% file://relative ${ground} binary://${nowhere} binary:// \
binary-v2://${nowhere}?a=b relative x://y ${nowhere}`,
      ...['\0', ...Array.from({ length: 12 }, () => '')],
    ),
  stderr: ({ ground, nowhere }) => oneOf('', '', '', '', `file://${ground}/err`, nowhere, 'x://', '\0'),
  runtime_path: ({ nowhere }) =>
    words(`${nowhere} io.containerd.runc.v2 io.containerd.nosuch.v1 a/b .. x a.b .`, '', '\0'),
  task_api_address: ({ nowhere }) =>
    words(`ttrpc+unix://${nowhere} grpc+unix://${nowhere} ttrpc+unix:// unix://${nowhere} x grpc+vsock://2:1`, ''),
  'Container.Runtime.name': ({ nowhere }) =>
    mostly(oneOf('io.containerd.runc.v2'), words(`io.containerd.nosuch.v1 ${nowhere} a/b x .`, '')),
  'Sandbox.Runtime.name': ({ nowhere }) => words(`io.containerd.runc.v2 ${nowhere} x`, ''),
  'RuntimeRequest.runtime_path': ({ nowhere }) => words(`${nowhere} io.containerd.runc.v2 runc a/b`, '', '\0'),
  binary_name: ({ nowhere }) => words(`runc nosuch-runc ${nowhere}`, '', ''),
  root: ({ ground }) => oneOf('', '', `${ground}/runc`),
  shim_cgroup: () => oneOf(''),
  ...Object.fromEntries(
    listOf('netns_path parent_checkpoint image_path work_path criu_image_path criu_work_path criu_path').map(
      (field): [string, Choice] => [field, ({ nowhere }) => oneOf('', nowhere)],
    ),
  ),
  host_dir: ({ ground, nowhere }) => oneOf('', '', ground, nowhere, `${ground}/\0`),
  reference: ({ references }) =>
    mostly(
      oneOf(...references),
      words(`@ : x /// 127.0.0.1:1/${'x'.repeat(300)}:1 127.0.0.1:99999/a:1 127.0.0.1:1/a@sha256:00`, '', 'a b:1'),
    ),
}

function listOf(text: string): string[] {
  return text.split(' ')
}

const MEDIA_TYPES =
  'application/vnd.oci.image.layer.v1.tar application/vnd.oci.image.layer.v1.tar+gzip application/vnd.oci.image.manifest.v1+json application/vnd.oci.image.index.v1+json text/plain'
const MASKS = `labels labels.a labels. .labels . target spec extensions.x runtime.name * annotations created_at image snapshotkey \
Labels labels.__proto__`

const USUAL: Readonly<Record<string, Choice>> = {
  namespace: ({ namespaces }) => oneOf(...namespaces),
  exec_id: () => oneOf('', '', 'e1', 'e2'),
  digest: ({ digests }) => oneOf(...digests),
  expected: ({ digests }) => oneOf('', '', ...digests),
  snapshotter: () => words('overlayfs overlayfs overlayfs overlayfs overlayfs native nosuch'),
  sandboxer: () => words('shim podsandbox', ''),
  parent: () => words('base base base k1', '', '', ''),
  name: ({ references, namespaces }) => oneOf(...IDS, ...references, ...namespaces),
  image: ({ references }) => oneOf(...references),
  media_type: () => words(MEDIA_TYPES, ''),
  topic: () => words('/tasks/exit /tasks/oom /x /content/delete /containers/delete /a/b/c x // /'),
  type: () =>
    words('content images ingests snapshots/overlayfs snapshots/ snapshots/a/b snapshots x io.containerd.runtime.v2'),
  paths: () => words(MASKS, ''),
  fields: () => words(MASKS, ''),
  filter: () => filterText,
  filters: () => filterText,
  progress_stream: () => words('s1 s2 nosuch', ''),
  stream: () => words('s1 s2 nosuch'),
  default_scheme: () => words('http http https ftp'),
}

const selector = fc
  .tuple(
    words('id name labels labels.a labels."a.b" kind ref digest event.id topic type "id"', ''),
    words('== != ~= = =~ ~ ===', ''),
    words(`c1 "c1" /c/ |c| "" "\\xff" "\\u12" /(a+)+$/ |(| 'c1' "open , .`, 'a b', '\u{1F600}', '\0'),
  )
  .map((parts) => parts.join(''))
const filterText = mostly(
  fc.array(selector, { maxLength: 3 }).map((selectors) => selectors.join(',')),
  fc.oneof(
    fc.string({ maxLength: 30, unit: 'binary' }),
    oneOf(`id~=/${'('.repeat(5000)}/`, 'a.'.repeat(20_000), `name~=/${'a?'.repeat(40)}${'a'.repeat(40)}/`),
  ),
  12,
)
