import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import type { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { DescriptorSchema } from '@gantry/api/containerd/types/descriptor_pb'
import { mkfifo } from '@gantry/linux/file'
import { identify, isAlive } from '@gantry/linux/process'
import type { Client } from '@gantry/rpc/client'
import { openStore } from '@gantry/store/store'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { adopt } from './adopt.ts'
import { bundlesIn } from './bundle.ts'
import { createEndings } from './ending.ts'
import { createRegistry } from './registry.ts'
import { createRestores, removeImages, sweepCheckpoints } from './restore.ts'
import { plainRootfs } from './rootfs.ts'
import { openRows } from './rows.ts'
import { createHost } from './runtime/choose.ts'
import { createExits } from './runtime/exits.ts'
import { createOciRuntime } from './runtime/oci.ts'
import type { Restore, RuntimeChoice } from './runtime/runtime.ts'
import { noEntrance } from './sandbox/entrance.ts'
import { pidOf } from './task.ts'
import { createTasks, type TasksParts } from './tasks.ts'

// criu works on few kernels, so the runtime is one that starts something else instead of what was dumped; all the rest is real

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const NS = 'test'
const DUMP = 'application/vnd.containerd.container.criu.checkpoint.criu.tar'
const DIGEST = `sha256:${'a'.repeat(64)}`
const QUIET = { stdin: '', stdout: '', stderr: '', terminal: false }
const call = { namespace: NS, signal: new AbortController().signal }
const conmon = createHost(PATH).find('conmon')

/** Its container goes on until somebody opens `go`, and ends with 3. */
const SCRIPT = `#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >>told
case " $* " in
*" restore "*)
  while [ $# -gt 0 ]; do
    case $1 in --pid-file) pid=$2;; --log) log=$2;; --image-path) images=$2;; esac
    shift
  done
  if [ -e fail ] || ! [ -e "$images/core-1.img" ]; then
    echo '{"level":"error","msg":"criu failed: type NOTIFY errno 0"}' >>"$log"
    exit 1
  fi
  sh -c 'read x <go; exit 3' &
  echo $! >pid.new
  cp pid.new "$pid"
  mv pid.new pid ;;
*" delete "*)
  [ ! -e pid ] || kill -9 "$(cat pid)" 2>/dev/null
  rm -f pid ;;
esac
`

let folder: string
let told: string[]
let archive: Buffer
let node: Awaited<ReturnType<typeof startNode>>

const here = (name: string) => join(folder, name)
const images = () => readdirSync(here('checkpoints'))

/** One run of the process; with `stops` its next record is never written, as if it were killed then. */
async function startNode() {
  const store = openStore(here('records'))
  const exits = createExits(Date.now)
  const runtime = createOciRuntime({ state: folder, env: { PATH }, exits, conmon: () => conmon ?? '' })
  let write = async <T>(change: () => T): Promise<T> => store.write(change)
  const emit = (_: string, topic: string, __: unknown, { pid, exitStatus }: { pid?: number; exitStatus?: number }) =>
    void told.push(`${topic.slice('/tasks/'.length)}${pid === 0 ? ' 0' : ''}${exitStatus ? ` ${exitStatus}` : ''}`)
  const quiet = vi.fn()
  const shared = {
    ...{ rows: openRows(store), runtime, onEnd: () => undefined, boot: 'this', now: Date.now },
    write: <T>(change: (e: typeof emit) => T) => write(() => change(emit)),
    networks: { attach: vi.fn(), detach: async () => undefined, sweep: async () => undefined },
    log: { info: quiet, warn: quiet, error: console.error } as unknown as TasksParts['log'],
  }
  const parts = {
    ...{ ...shared, registry: createRegistry(), endings: createEndings(shared as unknown as TasksParts) },
    ...{ bundles: bundlesIn(folder), limits: { unbounded: true, oomScoreAdj: 0, hard: new Map() } },
    ...{ entrance: noEntrance, rootfs: plainRootfs },
  } as unknown as TasksParts
  await adopt(parts)
  sweepCheckpoints(here('checkpoints'), parts.registry)
  return {
    ...{ parts, tasks: createTasks(parts) },
    /** @returns when the process has come as far as the record that it never writes */
    stops: () =>
      new Promise<void>((stopped) => {
        write = () => {
          stopped()
          return new Promise(() => undefined)
        }
      }),
    fails: (error: () => Error) => {
      write = async () => {
        throw error()
      }
    },
    async [Symbol.asyncDispose]() {
      for (const { init } of parts.registry.all()) init.watch?.[Symbol.dispose]()
      exits[Symbol.dispose]()
      await store[Symbol.asyncDispose]()
    },
  }
}

async function restartNode(): Promise<void> {
  await node[Symbol.asyncDispose]()
  node = await startNode()
}

const runtimeOf = (binary: string): RuntimeChoice => ({
  ...{ binary, root: here('state'), systemdCgroup: false, noPivot: false, noNewKeyring: true },
  ...{ ioUid: 0, ioGid: 0, shim: null },
})

const restoreOf = (find = (name: string) => (name === 'criu' ? here('criu') : undefined)) => {
  async function* read() {
    for (let at = 0; at < archive.length; at += 5000) yield { data: archive.subarray(at, at + 5000) }
  }
  return createRestores({
    content: { read } as unknown as Client<typeof Content>,
    host: { find },
    folder: here('checkpoints'),
  })
}

const checkpoint = create(DescriptorSchema, { mediaType: DUMP, digest: DIGEST })
const unpack = (runtime = runtimeOf(here('runtime'))) =>
  restoreOf()(runtime, { checkpoint, paths: { images: '', workPath: '' } }, call)

async function makeBox(restore?: Restore): Promise<number> {
  const options = { spec: Buffer.from('{}'), rootfs: [], stdio: QUIET, runtime: runtimeOf(here('runtime')) }
  return node.tasks.create(NS, 'box', { ...options, restore: restore ?? (await unpack()) })
}

const life = () => node.tasks.find(NS, 'box', '').life
/** The process that the runtime has started. */
const restored = () => (existsSync(here('pid')) ? identify(Number(readFileSync(here('pid'), 'utf8'))) : undefined)

function pack(...files: readonly [string, string][]): void {
  mkdirSync(here('dump'))
  for (const [name, text] of files) writeFileSync(here(`dump/${name}`), text)
  archive = execFileSync('tar', ['--create', '--directory', here('dump'), '.'])
}

describe.skipIf(conmon === undefined)(
  `restoring${conmon ? '' : ' (skipped: needs conmon)'}`,
  { timeout: 30_000 },
  () => {
    beforeEach(async () => {
      folder = mkdtempSync(join(tmpdir(), 'gantry-restore-'))
      told = []
      writeFileSync(here('runtime'), SCRIPT, { mode: 0o755 })
      writeFileSync(here('criu'), '#!/bin/sh\n', { mode: 0o755 })
      mkfifo(here('go'), 0o600)
      pack(['core-1.img', 'core'], ['pages-1.img', 'x'.repeat(20_000)])
      node = await startNode()
    })

    afterEach(async () => {
      if (node.parts.registry.all().length > 0) {
        await node.tasks.kill(NS, 'box', '', { signal: 9, all: false }).catch(() => undefined)
        if (life().status !== 'added') await node.tasks.wait(NS, 'box', '', AbortSignal.timeout(10_000))
        await node.tasks.deleteTask(NS, 'box')
      }
      await node[Symbol.asyncDispose]()
      const left = restored()
      rmSync(folder, { recursive: true })
      expect(left && isAlive(left)).toBeFalsy()
    })

    test('a checkpoint waits as a created task without a process, goes on when it is started, and leaves nothing', async () => {
      expect(await makeBox()).toBe(0)
      expect([life().status, pidOf(life()), images().length]).toEqual(['added', 0, 1])
      expect(() => readFileSync(here('told'))).toThrow()
      await expect(node.tasks.kill(NS, 'box', '', { signal: 9, all: false })).rejects.toThrow(
        'no such container: not found',
      )
      await expect(node.tasks.exec(NS, 'box', 'one', { stdio: QUIET, spec: '{}' })).rejects.toThrow(
        'in a created state',
      )

      const pid = await node.tasks.start(NS, 'box', '')
      expect([life().status, pid, images()]).toEqual(['running', restored()?.pid, []])
      expect(readFileSync(here('told'), 'utf8')).toMatch(
        / restore .* --image-path \S+restore-\S+ --work-path \S+bundles\S+ box\n$/,
      )
      writeFileSync(here('go'), '\n')
      await node.tasks.wait(NS, 'box', '', AbortSignal.timeout(10_000))
      await node.tasks.deleteTask(NS, 'box')

      expect(told).toEqual(['create 0', 'start', 'exit 3', 'delete 3'])
    })

    test('one that is never started is deleted, and who waits for it hears so', async () => {
      await makeBox()
      const waiting = node.tasks.wait(NS, 'box', '', call.signal)
      waiting.catch(() => undefined)

      const { life: last } = await node.tasks.deleteTask(NS, 'box')

      await expect(waiting).rejects.toMatchObject({ code: 'not-found' })
      expect([pidOf(last), images(), told]).toEqual([0, [], ['create 0', 'delete 0']])
    })

    test('one that cannot be restored says why, and may be started again', async () => {
      await makeBox()
      writeFileSync(here('fail'), '')

      for (const _ of [1, 2])
        await expect(node.tasks.start(NS, 'box', '')).rejects.toMatchObject({
          code: 'unknown',
          message: 'OCI runtime restore failed: criu failed: type NOTIFY errno 0: unknown',
        })
      expect([life().status, images().length, told]).toEqual(['added', 1, ['create 0']])

      rmSync(here('fail'))
      await node.tasks.start(NS, 'box', '')
      expect(told).toEqual(['create 0', 'start'])
    })

    test('one that is killed between two steps of a start is ended, and starts at the next attempt', async () => {
      await makeBox()
      await restartNode() // it outlives us
      expect([life().status, images().length]).toEqual(['added', 1])

      const stopped = node.stops()
      void node.tasks.start(NS, 'box', '')
      await stopped
      const first = restored()
      await restartNode()

      await vi.waitFor(() => expect(first && isAlive(first)).toBe(false), 10_000)
      expect([life().status, images().length]).toEqual(['added', 1])
      await node.tasks.start(NS, 'box', '')
      expect([life().status, told]).toEqual(['running', ['create 0', 'start']])
      await restartNode()
      expect([life().status, pidOf(life())]).toEqual(['running', restored()?.pid])
      writeFileSync(here('go'), '\n')
      await node.tasks.wait(NS, 'box', '', AbortSignal.timeout(10_000))
      expect(told).toEqual(['create 0', 'start', 'exit 3'])
    })

    test('what a crash leaves of a create, of a start, and of a checkpoint goes at the next start', async () => {
      const restore = await unpack()
      const stopped = node.stops()
      void makeBox(restore)
      await stopped
      mkdirSync(here('checkpoints/dump-of-another'))
      await restartNode()
      expect([images(), node.parts.registry.all()]).toEqual([[], []])

      await makeBox()
      await node.tasks.start(NS, 'box', '')
      mkdirSync(restore.images) // as if it had come no further than the record
      await restartNode()
      expect([images(), life().status]).toEqual([[], 'running'])
    })

    test('a start that cannot be recorded ends what nobody would hear of', async () => {
      await makeBox()
      let left: ReturnType<typeof restored>
      node.fails(() => {
        left = restored()
        return new Error('the disk is full')
      })

      await expect(node.tasks.start(NS, 'box', '')).rejects.toThrow('the disk is full')

      await vi.waitFor(() => expect(left && isAlive(left)).toBe(false), 10_000)
      await restartNode()
      await node.tasks.start(NS, 'box', '')
      expect(told).toEqual(['create 0', 'start'])
    })

    test('a create that fails leaves no images to its caller but their removal', async () => {
      await makeBox()
      const second = await unpack()

      await expect(makeBox(second)).rejects.toMatchObject({ code: 'already-exists' })
      removeImages(second)

      expect([life().status, images().length]).toEqual(['added', 1])
    })

    test('an archive with more in it than plain files is refused, and leaves nothing (CVE-2026-53489)', async () => {
      symlinkSync('/etc/passwd', here('dump/core-2.img'))
      archive = execFileSync('tar', ['--create', '--directory', here('dump'), '.'])
      await expect(unpack()).rejects.toMatchObject({ code: 'invalid-argument' })

      archive = execFileSync('tar', [
        '--create',
        '--directory',
        here('dump'),
        'core-1.img',
        'core-1.img',
        '--hard-dereference',
      ])
      await expect(unpack()).rejects.toThrow('two files of one name')

      expect([images(), readFileSync('/etc/passwd', 'utf8').includes('root')]).toEqual([[], true])
    })

    test('a folder that the client names is used as it is, and kept', async () => {
      const paths = { images: here('dump'), workPath: here('work') }
      const restore = await restoreOf()(runtimeOf(here('runtime')), { checkpoint, paths }, call)
      await makeBox(restore)

      await node.tasks.start(NS, 'box', '')

      expect([restore.owned, readdirSync(here('dump')).length]).toEqual([false, 2])
      expect(readFileSync(here('told'), 'utf8')).toMatch(
        new RegExp(` --image-path ${here('dump')} .*--work-path ${here('work')} box\n$`),
      )
      const given = (wish: object) =>
        restoreOf()(runtimeOf(here('runtime')), { checkpoint, paths: { images: '', workPath: '' }, ...wish }, call)
      await expect(given({ paths: { ...paths, images: 'dump' } })).rejects.toMatchObject({ code: 'invalid-argument' })
      await expect(given({ checkpoint: { ...checkpoint, mediaType: 'a/b' } })).rejects.toThrow(
        'unsupported checkpoint type "a/b"',
      )
    })

    test('what came with the image of a checkpoint names no folder of the host (CVE-2026-94603)', async () => {
      const annotations = { RestoreFromPath: here('dump') }
      const given = (mediaType: string) => {
        const wish = { checkpoint: { ...checkpoint, mediaType, annotations }, paths: { images: '', workPath: '' } }
        return restoreOf()(runtimeOf(here('runtime')), wish, call)
      }

      const restore = await given(DUMP)

      expect([restore.owned, restore.images.startsWith(here('checkpoints'))]).toEqual([true, true])
      await expect(given('a/b')).rejects.toThrow('unsupported checkpoint type "a/b"')
    })

    test('where criu is missing or broken, or the runtime knows none, it is said what to do', async () => {
      const from = { checkpoint, paths: { images: '', workPath: '' } }
      const refusal = (message: RegExp) => ({ code: 'failed-precondition', message: expect.stringMatching(message) })
      await expect(restoreOf(() => undefined)(runtimeOf('/usr/sbin/runc'), from, call)).rejects.toMatchObject(
        refusal(/criu is not installed; apt-get install criu$/),
      )
      writeFileSync(here('crun'), '#!/bin/sh\necho "crun version 1.8.1"; echo "+SYSTEMD +CAP"\n', { mode: 0o755 })
      await expect(unpack(runtimeOf(here('crun')))).rejects.toMatchObject(
        refusal(/built without criu; run the container by runc$/),
      )
      writeFileSync(here('crun'), '#!/bin/sh\necho "crun version 1.8.1"; echo "+SYSTEMD +CRIU"\n', { mode: 0o755 })
      expect((await unpack(runtimeOf(here('crun')))).owned).toBe(true)
      writeFileSync(here('criu'), '#!/bin/sh\necho "Error (criu/mount.c): unsupported" >&2; exit 1\n', { mode: 0o755 })
      await expect(unpack()).rejects.toMatchObject(
        refusal(/criu does not work on this host: Error \(criu\/mount.c\): unsupported$/),
      )
    })
  },
)
