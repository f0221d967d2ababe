import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf'
import { mkfifo } from '@gantry/linux/file'
import { mountsUnder, unmountAll } from '@gantry/linux/mount'
import { identify, isAlive, processesIn, sendSignal } from '@gantry/linux/process'
import { openStore } from '@gantry/store/store'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { adopt } from './adopt.ts'
import { bundlesIn } from './bundle.ts'
import { isUnified, pidsOf } from './cgroup.ts'
import { createEndings } from './ending.ts'
import { readMetrics } from './metrics.ts'
import { reconcile } from './reconcile.ts'
import { createRegistry } from './registry.ts'
import { plainRootfs } from './rootfs.ts'
import { openRows } from './rows.ts'
import { requireCriu } from './runtime/checkpoint.ts'
import { chooseRuntime, createHost } from './runtime/choose.ts'
import { createExits } from './runtime/exits.ts'
import { createOciRuntime } from './runtime/oci.ts'
import { resolveRuntime } from './runtime/resolve.ts'
import type { RuntimeChoice } from './runtime/runtime.ts'
import { noEntrance } from './sandbox/entrance.ts'
import { readHostLimits } from './spec.ts'
import { isAliveLife, type Live } from './task.ts'
import { createTasks, type TasksParts } from './tasks.ts'

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const BUSYBOX = '/bin/busybox'
const host = createHost(PATH)
const missing = whatIsMissing()
const never = new AbortController().signal
const NS = 'test'
const MIB = 1024 * 1024
const ALL_NAMESPACES = ['pid', 'ipc', 'uts', 'mount', 'network'].map((type) => ({ type }))
const NO_CHECKPOINT = {
  ...{ exit: false, openTcp: false, externalUnixSockets: false, terminal: false, fileLocks: false },
  ...{ emptyNamespaces: [], cgroupsMode: '', imagePath: '', workPath: '' },
}

/** Why these tests cannot run here, or an empty text. */
function whatIsMissing(): string {
  if (process.getuid?.() !== 0) return 'needs root'
  if (!existsSync(BUSYBOX)) return 'needs busybox-static'
  try {
    chooseRuntime('auto', host)
  } catch {
    return 'needs runc or crun'
  }
  return host.find('conmon') === undefined ? 'needs conmon' : ''
}

let folder: string
let told: string[]
let node: Awaited<ReturnType<typeof startNode>>

/** The folders of our cgroups; they are empty, the runtime removes a container's but not the one above it. */
function removeCgroups(): void {
  for (const hierarchy of ['.', ...readdirSync('/sys/fs/cgroup')]) {
    const path = join('/sys/fs/cgroup', hierarchy, `gantry-test-${process.pid}`)
    if (existsSync(path)) rmdirSync(path)
  }
}

/** One run of the tasks process, without its sockets; `[Symbol.asyncDispose]` is its end, however that came. */
async function startNode({ boot = 'this', crash = false } = {}) {
  const store = openStore(join(folder, 'records'))
  const exits = createExits(Date.now)
  const runtime = createOciRuntime({ state: folder, env: { PATH }, exits, conmon: () => host.find('conmon') ?? '' })
  const emit = <S extends DescMessage>(_ns: string, topic: string, _schema: S, init: MessageInitShape<S>): void => {
    const { containerId, execId, id, exitStatus } = {
      execId: '',
      id: '',
      exitStatus: undefined,
      containerId: '',
      ...init,
    }
    told.push(
      [topic.slice('/tasks/'.length), execId || id || containerId, exitStatus].filter((x) => x !== undefined).join(' '),
    )
  }
  const quiet = vi.fn()
  const shared = {
    rows: openRows(store),
    write: <T>(change: (e: typeof emit) => T) =>
      crash ? new Promise<T>(() => undefined) : store.write(() => change(emit)),
    runtime,
    networks: { attach: vi.fn(), detach: async () => undefined, sweep: async () => undefined },
    onEnd: () => undefined,
    boot,
    now: Date.now,
    log: { info: quiet, warn: quiet, error: console.error } as unknown as TasksParts['log'],
  }
  const registry = createRegistry()
  const parts: TasksParts = {
    ...shared,
    ...{ registry, endings: createEndings(shared), bundles: bundlesIn(folder), limits: readHostLimits() },
    ...{ entrance: noEntrance, rootfs: plainRootfs },
  }
  await adopt(parts)
  return {
    tasks: createTasks(parts),
    runtime,
    reconcile: (options?: { dryRun: boolean }) => reconcile({ ...parts, state: folder, host }, options),
    async [Symbol.asyncDispose]() {
      for (const task of registry.all())
        for (const each of [task.init, ...task.execs.values()]) each.watch?.[Symbol.dispose]()
      exits[Symbol.dispose]()
      await store[Symbol.asyncDispose]()
    },
  }
}

const runtimeOptions = { namespace: NS, name: '', path: '', options: undefined, containerOptions: undefined }

function create(id: string, args: readonly string[], stdio = {}, more = {}, runtime = chosen()): Promise<number> {
  const terminal = 'terminal' in stdio && stdio.terminal === true
  const spec = {
    ociVersion: '1.0.2',
    process: { args, cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 }, terminal },
    root: { path: 'rootfs' },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['mode=755'] },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['newinstance', 'ptmxmode=0666', 'mode=0620'],
      },
    ],
    linux: {
      cgroupsPath: `/gantry-test-${process.pid}/${id}`,
      namespaces: ALL_NAMESPACES,
    },
    ...more,
  }
  return node.tasks.create(NS, id, {
    spec: Buffer.from(JSON.stringify(spec)),
    rootfs: [{ type: 'bind', source: join(folder, 'image'), target: '', options: ['rbind', 'rw'] }],
    stdio: { stdin: '', stdout: '', stderr: '', terminal: false, ...stdio },
    runtime,
  })
}

function chosen(): RuntimeChoice {
  return resolveRuntime({ configured: process.env.GANTRY_TEST_RUNTIME ?? 'auto', host, state: folder }, runtimeOptions)
}

/** A logger program that writes all it gets to the file of its second argument. @param ready how it says that it is ready */
function logger(ready: string): string {
  const path = join(folder, `logger-${ready.length}`)
  const script = `#!/bin/sh
echo "$1|$CONTAINER_NAMESPACE|$CONTAINER_ID" >>"$2"
${ready}
cat <&3 >>"$2" &
cat <&4 >>"$2" &
wait
`
  writeFileSync(path, script, { mode: 0o755 })
  return path
}

async function run(...args: Parameters<typeof create>): Promise<number> {
  const [id] = args
  await create(...args)
  return node.tasks.start(NS, id, '')
}

function exec(id: string, execId: string, args: readonly string[], stdio = {}): Promise<void> {
  const terminal = 'terminal' in stdio && stdio.terminal === true
  const spec = JSON.stringify({ args, cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 }, terminal })
  return node.tasks.exec(NS, id, execId, {
    spec,
    stdio: { stdin: '', stdout: '', stderr: '', terminal: false, ...stdio },
  })
}

async function exitOf(id: string, execId = ''): Promise<number> {
  const { life } = await node.tasks.wait(NS, id, execId, never)
  return life.status === 'stopped' ? life.exit.status : -1
}

/** A FIFO with a client at our end of it. */
function fifo(name: string): { path: string; socket: Socket; text: () => string } {
  const path = join(folder, name)
  mkfifo(path, 0o700)
  const socket = new Socket({
    fd: openSync(path, constants.O_RDWR | constants.O_NONBLOCK),
    readable: true,
    writable: true,
  })
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk.toString()
  })
  return { path, socket, text: () => text }
}

describe.skipIf(missing !== '')(`containers${missing && ` (skipped: ${missing})`}`, { timeout: 30_000 }, () => {
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'gantry-tasks-'))
    told = []
    const bin = join(folder, 'image', 'bin')
    mkdirSync(bin, { recursive: true })
    for (const dir of ['proc', 'dev']) mkdirSync(join(folder, 'image', dir))
    copyFileSync(BUSYBOX, join(bin, 'busybox'))
    for (const name of ['sh', 'cat', 'echo', 'sleep', 'stty', 'ls', 'tty']) symlinkSync('busybox', join(bin, name))
    node = await startNode()
  })

  afterEach(async () => {
    for (const { task, life, execId } of node.tasks.list(NS)) {
      if (execId !== '') continue
      if (isAliveLife(life)) await node.runtime.kill(task.init, life.live, 9)
      await node.tasks.wait(NS, task.id, '', AbortSignal.timeout(5000))
      await node.tasks.deleteTask(NS, task.id)
    }
    await node[Symbol.asyncDispose]()
    expect(mountsUnder(folder)).toEqual([])
    rmSync(folder, { recursive: true, force: true })
    removeCgroups()
  })

  test('a task runs, tells its exit code and leaves nothing', async () => {
    const [out, err] = [fifo('out'), fifo('err')]
    const pid = await run('box', ['sh', '-c', 'echo hello; echo oops >&2; exit 3'], {
      stdout: out.path,
      stderr: err.path,
    })

    expect(await exitOf('box')).toBe(3)
    const live = liveOf((await node.tasks.deleteTask(NS, 'box')).life)

    await vi.waitFor(() => expect([out.text(), err.text()]).toEqual(['hello\n', 'oops\n']), 10_000)
    expect(live.process.pid).toBe(pid)
    expect(told).toEqual(['create box', 'start box', 'exit box 3', 'delete box 3'])
    expect(existsSync(join(bundlesIn(folder), NS, 'box'))).toBe(false)
    expect(() => node.tasks.find(NS, 'box', '')).toThrow('task box not found')
    out.socket.destroy()
    err.socket.destroy()
  })

  test('a program that does not exist fails the create with the words that clients match', async () => {
    await expect(create('box', ['nope'])).rejects.toThrow(
      /^failed to create shim task: OCI runtime create failed: .*nope/,
    )

    expect(told).toEqual([])
    expect(existsSync(join(bundlesIn(folder), NS, 'box'))).toBe(false)
    await run('box', ['sleep', '60'])
    await expect(create('box', ['sh'])).rejects.toThrow('already exists')
  })

  test('a root file system that cannot be mounted fails the create, and leaves nothing', async () => {
    const wish = { spec: Buffer.from('{}'), stdio: { stdin: '', stdout: '', stderr: '', terminal: false } }
    const rootfs = [{ type: 'overlay', source: 'overlay', target: '', options: ['lowerdir=/nosuch'] }]

    await expect(node.tasks.create(NS, 'box', { ...wish, rootfs, runtime: chosen() })).rejects.toMatchObject({
      code: 'failed-precondition',
    })
    expect(existsSync(join(bundlesIn(folder), NS, 'box'))).toBe(false)
  })

  test.each([
    ['a mount that climbs (CVE-2022-23648)', '/../../../made', '/'],
    ['a mount through a link of the image', '/link/made', '/'],
    ['a working folder through one (CVE-2026-55686)', '/mnt', '/link/made'],
  ])('%s makes nothing outside of the container', async (_, destination, cwd) => {
    const outside = join(folder, 'outside')
    mkdirSync(outside)
    symlinkSync(outside, join(folder, 'image', 'link'))
    const mounts = [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination, type: 'tmpfs', source: 'tmpfs' },
    ]
    const spec = { args: ['true'], cwd, env: ['PATH=/bin'], user: { uid: 0, gid: 0 } }

    await run('box', [], {}, { mounts, process: spec }).catch(() => undefined) // it may be refused

    expect(readdirSync(outside)).toEqual([])
    expect(existsSync('/made')).toBe(false)
    expect(mountsUnder(outside)).toEqual([])
  })

  test('input ends when the client has said so', async () => {
    const [out, input] = [fifo('out'), join(folder, 'in')]
    mkfifo(input, 0o700)
    await run('box', ['cat'], { stdin: input, stdout: out.path })

    const client = openSync(input, constants.O_WRONLY)
    const writer = new Socket({ fd: client, readable: false, writable: true })
    writer.end('some text')
    await once(writer, 'close')
    await vi.waitFor(() => expect(out.text()).toBe('some text'), 10_000)
    await sleep(100)
    expect(node.tasks.find(NS, 'box', '').life.status).toBe('running')
    await node.tasks.closeInput(NS, 'box', '')

    expect(await exitOf('box')).toBe(0)
    out.socket.destroy()
  })

  test('input ends also when the client says so while the process is being started', async () => {
    const input = join(folder, 'in')
    mkfifo(input, 0o700)
    await run('box', ['sleep', '60'])
    await exec('box', 'reader', ['cat'], { stdin: input })

    const started = node.tasks.start(NS, 'box', 'reader')
    await node.tasks.closeInput(NS, 'box', 'reader')

    await started
    expect(await exitOf('box', 'reader')).toBe(0)
  })

  test.each([
    ['binary', 'exec 5>&-'],
    ['binary-v2', 'printf x >&5; exec 5>&-'],
  ])('a %s:// logger gets output and errors, and outlives us', async (scheme, ready) => {
    const url = `${scheme}://${logger(ready)}?to=${join(folder, 'log')}`
    await run('box', ['sh', '-c', 'echo hello; echo oops >&2; exec sleep 60'], { stdout: url })
    const { logger: process } = liveOf(node.tasks.find(NS, 'box', '').life)
    await vi.waitFor(() => expect(readFileSync(join(folder, 'log'), 'utf8')).toContain('hello'), 10_000)

    await node[Symbol.asyncDispose]()
    node = await startNode()
    await exec('box', 'one', ['echo', 'from exec'], { stdout: url.replace(/log$/, 'log2') })
    await node.tasks.start(NS, 'box', 'one')
    await exitOf('box', 'one')
    await node.tasks.deleteExec(NS, 'box', 'one')
    await node.tasks.kill(NS, 'box', '', { signal: 9, all: false })
    await exitOf('box')
    await node.tasks.deleteTask(NS, 'box')

    expect(process && isAlive(process)).toBe(false)
    expect(readFileSync(join(folder, 'log'), 'utf8').split('\n').sort()).toEqual(
      ['', `to|${NS}|box`, 'hello', 'oops'].sort(),
    )
    expect(readFileSync(join(folder, 'log2'), 'utf8')).toContain(`to|${NS}|one\n`)
    expect(readFileSync(join(folder, 'log2'), 'utf8')).toContain('from exec\n')
  })

  test('a logger takes a terminal too', async () => {
    await run('box', ['sh', '-c', 'tty; exit 3'], {
      stdout: `binary://${logger('exec 5>&-')}?to=${join(folder, 'log')}`,
      terminal: true,
    })

    expect(await exitOf('box')).toBe(3)
    await node.tasks.deleteTask(NS, 'box')
    expect(readFileSync(join(folder, 'log'), 'utf8')).toContain('/dev/pts/0\r\n')
  })

  test('a logger that does not get ready fails the create, one that does not end is ended', async () => {
    await expect(create('box', ['sh'], { stdout: `binary-v2://${logger('exit 1')}?to=/dev/null` })).rejects.toThrow(
      'it ended before it was ready',
    )
    await expect(create('box', ['sh'], { stdout: `binary://${folder}/none` })).rejects.toThrow(
      'no such file or directory',
    )
    expect(existsSync(join(bundlesIn(folder), NS, 'box'))).toBe(false)

    await run('box', ['sh'], { stdout: `binary://${logger('exec 5>&-; exec sleep 60')}?to=/dev/null` })
    await exitOf('box')
    const live = liveOf((await node.tasks.deleteTask(NS, 'box')).life)
    expect(live.logger && isAlive(live.logger)).toBe(false)
  })

  test.skipIf(host.find('runc') === undefined)('runc is asked only for what it alone can do', async () => {
    const verbs = join(folder, 'verbs')
    const binary = join(folder, 'runc')
    writeFileSync(binary, `#!/bin/sh\necho "$*" >>${verbs}\nexec ${host.find('runc')} "$@"\n`, { mode: 0o755 })
    const asked = () => readFileSync(verbs, 'utf8').match(/\b(create|start|delete)\b/g)
    const cycle = async (more = {}) => {
      rmSync(verbs, { force: true })
      await run('box', ['sh'], {}, more, { ...chosen(), binary, root: join(folder, 'runc-state') })
      await exitOf('box')
      await node.tasks.deleteTask(NS, 'box')
      expect(readdirSync(join(folder, 'runc-state'))).toEqual([])
      expect(existsSync(`/sys/fs/cgroup/pids/gantry-test-${process.pid}/box`)).toBe(false)
      return asked()
    }

    expect(await cycle()).toEqual(['create'])
    const poststop = [{ path: '/bin/sh', args: ['sh', '-c', `cat >${join(folder, 'hooked')}`] }]
    expect(await cycle({ hooks: { poststop } })).toEqual(['create', 'start', 'delete'])
    expect(readFileSync(join(folder, 'hooked'), 'utf8')).toContain('"id":"box"')
  })

  test('the pipes of a process belong to whom the client says', async () => {
    const out = fifo('out')
    await node.tasks
      .create(NS, 'box', {
        spec: Buffer.from('{}'),
        ...{ rootfs: [], stdio: { stdin: '', stdout: out.path, stderr: '', terminal: false } },
        runtime: { ...chosen(), ioUid: 1000, ioGid: 1001 },
      })
      .catch(() => undefined) // the runtime refuses the specification

    expect(statSync(out.path)).toMatchObject({ uid: 1000, gid: 1001 })
    out.socket.destroy()
  })

  test('an exec runs beside init, and its end comes before that of init', async () => {
    const out = fifo('out')
    await run('box', ['sleep', '60'])
    await exec('box', 'one', ['sh', '-c', 'echo from exec; exit 7'], { stdout: out.path })
    await exec('box', 'two', ['sleep', '60'])
    await expect(exec('box', 'one', ['sh'])).rejects.toThrow('already exists')
    const early = exitOf('box', 'one')

    const pid = await node.tasks.start(NS, 'box', 'one')
    await node.tasks.start(NS, 'box', 'two')

    expect(await early).toBe(7)
    await vi.waitFor(() => expect(out.text()).toBe('from exec\n'), 10_000)
    expect(node.tasks.find(NS, 'box', 'one').life).toMatchObject({ status: 'stopped', live: { process: { pid } } })
    expect((await node.tasks.pids(NS, 'box')).map(({ execId }) => execId)).toEqual([undefined, 'two'])
    await node.tasks.kill(NS, 'box', '', { signal: 9, all: false })
    expect([await exitOf('box'), await exitOf('box', 'two')]).toEqual([137, 137])
    await node.tasks.deleteExec(NS, 'box', 'one')
    expect(told.slice(2)).toEqual([
      ...['exec-added one', 'exec-added two', 'exec-started one'],
      ...(told.indexOf('exit one 7') < told.indexOf('exec-started two')
        ? ['exit one 7', 'exec-started two']
        : ['exec-started two', 'exit one 7']),
      ...['exit two 137', 'exit box 137'],
    ])
    out.socket.destroy()
  })

  test('an exec that cannot start stays to be deleted, and nobody waits for it', async () => {
    await run('box', ['sleep', '60'])
    await exec('box', 'bad', ['nope'])

    await expect(node.tasks.start(NS, 'box', 'bad')).rejects.toThrow(/^OCI runtime exec failed: .*nope/)

    expect((await node.tasks.wait(NS, 'box', 'bad', never)).life).toEqual({ status: 'failed' })
    await expect(node.tasks.start(NS, 'box', 'bad')).rejects.toThrow('cannot start')
    await node.tasks.deleteExec(NS, 'box', 'bad')
    expect(() => node.tasks.find(NS, 'box', 'bad')).toThrow('process does not exist')
  })

  test('an exec may end before anybody has looked', async () => {
    await run('box', ['sleep', '60'])

    for (const id of ['a', 'b', 'c', 'd', 'e']) {
      await exec('box', id, ['sh', '-c', 'exit 7'])
      await node.tasks.start(NS, 'box', id)
      expect(await exitOf('box', id)).toBe(7)
    }
  })

  test('a paused task stands still until it is resumed, and can be killed', async () => {
    await run('box', ['sleep', '60'])
    await node.tasks.pause(NS, 'box')
    expect(node.tasks.find(NS, 'box', '').life.status).toBe('paused')
    await expect(node.tasks.pause(NS, 'box')).rejects.toThrow('cannot pause a paused container')
    await expect(exec('box', 'one', ['sh'])).rejects.toThrow('cannot exec in a paused state')
    await expect(node.tasks.deleteTask(NS, 'box')).rejects.toThrow('cannot delete a paused process')
    await node.tasks.resume(NS, 'box')
    await node.tasks.pause(NS, 'box')

    await node.tasks.kill(NS, 'box', '', { signal: 9, all: false })

    expect(await exitOf('box')).toBe(137)
    expect(told.slice(2)).toEqual(['paused box', 'resumed box', 'paused box', 'exit box 137'])
    await expect(node.tasks.kill(NS, 'box', '', { signal: 9, all: false })).rejects.toThrow('already finished')
  })

  test('a created task can be deleted without a start', async () => {
    await create('box', ['sh'])

    await node.tasks.deleteTask(NS, 'box')

    expect(told).toEqual(['create box', 'exit box 137', 'delete box 137'])
  })

  test('a terminal carries input, output and its size', async () => {
    const [out, input] = [fifo('out'), join(folder, 'in')]
    mkfifo(input, 0o700)
    const script = 'stty size; read line; echo "got $line"; stty size; exit 4'
    await create('box', ['sh', '-c', script], { stdin: input, stdout: out.path, terminal: true })
    await node.tasks.resize(NS, 'box', '', { columns: 90, rows: 30 })
    await node.tasks.start(NS, 'box', '')
    await vi.waitFor(() => expect(out.text()).toContain('30 90'), 10_000)
    await node.tasks.resize(NS, 'box', '', { columns: 100, rows: 40 })

    const writer = spawn('sh', ['-c', `echo there > ${input}`])
    await once(writer, 'exit')

    expect(await exitOf('box')).toBe(4)
    const live = liveOf((await node.tasks.deleteTask(NS, 'box')).life)
    expect(out.text().replaceAll('\r', '')).toBe('30 90\nthere\ngot there\n40 100\n')
    expect([live.input, live.output].map((helper) => helper !== null && isAlive(helper))).toEqual([false, false])
    out.socket.destroy()
  })

  test('containers outlive the process that started them, and what happened meanwhile is told once', async () => {
    const [out, input] = [fifo('out'), join(folder, 'in')]
    mkfifo(input, 0o700)
    await run('stays', ['cat'], { stdin: input, stdout: out.path })
    await run('ends', ['sleep', '60'])
    await exec('ends', 'inside', ['sleep', '60'])
    await node.tasks.start(NS, 'ends', 'inside')
    await run('lost', ['sleep', '60'])
    const ends = node.tasks.find(NS, 'ends', '').life
    const lost = node.tasks.find(NS, 'lost', '').life
    told = []

    await node[Symbol.asyncDispose]()
    process.kill(liveOf(ends).process.pid, 'SIGTERM')
    process.kill(liveOf(ends).process.pid, 'SIGKILL')
    process.kill(liveOf(lost).monitor.pid, 'SIGKILL')
    await sleep(300)
    node = await startNode()

    expect([await exitOf('ends'), await exitOf('ends', 'inside'), await exitOf('lost')]).toEqual([137, 137, 137])
    expect(told.filter((event) => event.includes('lost'))).toEqual(['exit lost 137'])
    expect(told.filter((event) => !event.includes('lost'))).toEqual(['exit inside 137', 'exit ends 137'])
    await vi.waitFor(() => expect(isAlive(liveOf(lost).process)).toBe(false), 10_000) // it has been killed
    const writer = spawn('sh', ['-c', `echo still here > ${input}`])
    await once(writer, 'exit')
    await vi.waitFor(() => expect(out.text()).toBe('still here\n'), 10_000)
    await node.tasks.closeInput(NS, 'stays', '')
    expect(await exitOf('stays')).toBe(0)

    await node[Symbol.asyncDispose]()
    told = []
    node = await startNode()
    await sleep(100)
    expect(told).toEqual([])
    expect(node.tasks.find(NS, 'ends', '').life.status).toBe('stopped')
    out.socket.destroy()
  })

  test('what a crash in the middle of a create left is gone after the next start', async () => {
    await node[Symbol.asyncDispose]()
    node = await startNode({ crash: true })
    const input = join(folder, 'in')
    mkfifo(input, 0o700)
    void create('half', ['sleep', '60'], { stdin: input })
    const dir = join(bundlesIn(folder), NS, 'half')
    await vi.waitFor(() => expect(processesIn(join(dir, 'init'))).toHaveLength(2), { timeout: 20_000 }) // conmon and the holder
    await vi.waitFor(() => expect(existsSync(join(dir, 'init', 'pid'))).toBe(true), { timeout: 20_000 })
    const pid = identify(Number(readFileSync(join(dir, 'init', 'pid'), 'utf8')))
    await sleep(200)

    await node[Symbol.asyncDispose]()
    node = await startNode()

    expect(existsSync(dir)).toBe(false)
    await vi.waitFor(() => expect(pid !== undefined && isAlive(pid)).toBe(false), 10_000) // it has been killed
    expect(told).toEqual([])
    await run('half', ['sleep', '60'])
  })

  test('the records of an earlier boot go without a word', async () => {
    await run('box', ['sh'])
    await exitOf('box')
    told = []

    await node[Symbol.asyncDispose]()
    node = await startNode({ boot: 'next' })

    expect(node.tasks.list(NS)).toEqual([])
    expect(existsSync(join(bundlesIn(folder), NS, 'box'))).toBe(false)
    expect(told).toEqual([])
  })

  test('what no record knows is found and removed, what records know is left alone', async () => {
    await run('box', ['sleep', '60'])
    const stray = join(bundlesIn(folder), NS, 'stray')
    mkdirSync(join(stray, 'init'), { recursive: true })
    const worker = spawn('sleep', ['60'], { cwd: join(stray, 'init'), stdio: 'ignore' })
    const gone = new Promise((resolve) => worker.on('exit', resolve))
    const late = join(folder, 'late')
    mkdirSync(late)
    renameSync(late, join(bundlesIn(folder), NS, 'late'))
    const lost = spawn('sleep', ['60'], { cwd: join(bundlesIn(folder), NS, 'late'), stdio: 'ignore' })
    const goneToo = new Promise((resolve) => lost.on('exit', resolve))
    rmSync(join(bundlesIn(folder), NS, 'late'), { recursive: true })
    mkdirSync(join(folder, 'fifo', 'old'), { recursive: true })
    mkdirSync(join(folder, 'fifo', 'new'))
    utimesSync(join(folder, 'fifo', 'old'), 1, 1)

    const told = await node.reconcile({ dryRun: true })
    expect([existsSync(stray), readdirSync(join(folder, 'fifo')).length]).toEqual([true, 2])
    const found = await node.reconcile()

    await Promise.all([gone, goneToo])
    expect(told).toEqual(expect.arrayContaining(found)) // what goes along with another thing is told, too
    expect(found).toEqual([
      { what: 'A bundle without a record', of: stray, repaired: true },
      {
        what: 'A process without a record',
        of: `${lost.pid} in ${join(bundlesIn(folder), NS, 'late')}`,
        repaired: true,
      },
      { what: 'FIFOs of a client that is gone', of: join(folder, 'fifo', 'old'), repaired: true },
    ])
    expect(existsSync(stray)).toBe(false)
    expect(readdirSync(join(folder, 'fifo'))).toEqual(['new'])
    expect(node.tasks.find(NS, 'box', '').life.status).toBe('running')
    expect(await node.reconcile()).toEqual([])
  })

  test('a container that the runtime knows and no record does is ended', async () => {
    await run('box', ['sleep', '60'])
    const { life } = node.tasks.find(NS, 'box', '')
    await node[Symbol.asyncDispose]()
    rmSync(join(folder, 'records'), { recursive: true })
    renameSync(join(bundlesIn(folder), NS, 'box'), join(folder, 'elsewhere')) // nor does a bundle tell of it
    node = await startNode()

    const found = await node.reconcile()

    expect(found.map(({ what, repaired }) => [what, repaired])).toContainEqual(['A container without a record', true])
    await vi.waitFor(() => expect(isAliveLife(life) && isAlive(life.live.process)).toBe(false), 10_000)
    expect(await node.reconcile()).toEqual([])
    for (const point of mountsUnder(folder)) unmountAll(point)
  })

  test('a container that somebody froze and thawed behind our back is told of', async () => {
    await run('box', ['sleep', '60'])
    told = []
    const { task } = node.tasks.find(NS, 'box', '')

    await node.runtime.pause(task)
    const frozen = await node.reconcile()
    await node.runtime.resume(task)
    const thawed = await node.reconcile()

    expect([...frozen, ...thawed].map(({ what }) => what)).toEqual(['A task that is paused', 'A task that is running'])
    expect(told).toEqual(['paused box', 'resumed box'])
  })

  test('a start that was cut short is told after the next start', async () => {
    await create('box', ['sleep', '60'])
    const { task } = node.tasks.find(NS, 'box', '')
    await node.runtime.start(task)
    told = []

    await node[Symbol.asyncDispose]()
    node = await startNode()

    expect(told).toEqual(['start box'])
    expect(node.tasks.find(NS, 'box', '').life.status).toBe('running')
  })

  test('a start that was cut short is told although the process has ended since', async () => {
    await create('box', ['sh', '-c', 'exit 4'])
    await create('never', ['sh', '-c', 'exit 4'])
    const { task, life } = node.tasks.find(NS, 'box', '')
    const { life: unstarted } = node.tasks.find(NS, 'never', '')
    await node[Symbol.asyncDispose]()
    told = []
    await node.runtime.start(task)
    await vi.waitFor(() => expect(isAliveLife(life) && isAlive(life.live.monitor)).toBe(false), { timeout: 20_000 })
    if (isAliveLife(unstarted)) sendSignal(unstarted.live.process, 9)

    node = await startNode()
    await Promise.all([exitOf('box'), exitOf('never')])

    expect(told.filter((event) => event.includes('box'))).toEqual(['start box', 'exit box 4'])
    expect(told.filter((event) => event.includes('never'))).toEqual(['exit never 137'])
  })

  test('a want of memory is told before the exit it led to', async () => {
    const limited = {
      linux: { cgroupsPath: `/gantry-test-${process.pid}/oom`, resources: { memory: { limit: 20_000_000 } } },
    }
    await run('box', ['sh', '-c', 'x=a; while true; do x=$x$x; done'], {}, limited)

    expect(await exitOf('box')).toBe(137)
    expect(told).toEqual(['create box', 'start box', 'oom box', 'exit box 137'])
  })

  test('limits are changed while it runs, as it sees itself', async () => {
    const mounts = [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro'] },
    ]
    const linux = { cgroupsPath: `/gantry-test-${process.pid}/box`, namespaces: ALL_NAMESPACES }
    mkdirSync(join(folder, 'image', 'sys', 'fs', 'cgroup'), { recursive: true })
    const limits = { memory: { limit: 64 * MIB }, pids: { limit: 50 }, cpu: { quota: 50_000, period: 100_000 } }
    await run('box', ['sleep', '60'], {}, { mounts, linux: { ...linux, resources: limits } })

    await node.tasks.update(
      NS,
      'box',
      JSON.stringify({
        memory: { limit: 96 * MIB },
        pids: { limit: 7 },
        cpu: { quota: 20_000, shares: 512, cpus: '0' },
      }),
    )

    const out = fifo('out')
    const read = isUnified()
      ? 'cat memory.max pids.max cpu.max cpuset.cpus'
      : 'cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus'
    const forks = 'for i in 1 2 3 4 5 6 7 8; do sleep 5 & done'
    await exec('box', 'look', ['sh', '-c', `cd /sys/fs/cgroup; ${read}; ${forks}`], {
      stdout: out.path,
      stderr: out.path,
    })
    await node.tasks.start(NS, 'box', 'look')
    await exitOf('box', 'look')
    const expected = isUnified() ? `${96 * MIB}\n7\n20000 100000\n0\n` : `${96 * MIB}\n7\n20000\n512\n0\n`
    await vi.waitFor(() => expect(out.text()).toContain(expected), 10_000)
    await vi.waitFor(() => expect(out.text()).toMatch(/fork/), { timeout: 20_000 })
    out.socket.destroy()
  })

  test('a limit that the kernel refuses is refused with the words of the runtime', async () => {
    await run('box', ['sleep', '60'])

    await expect(node.tasks.update(NS, 'box', '{"cpu":{"cpus":"4095"}}')).rejects.toMatchObject({
      code: 'unknown',
      message: expect.stringContaining('OCI runtime update failed'),
    })
    expect(node.tasks.find(NS, 'box', '').life.status).toBe('running')
  })

  test('a checkpoint says why this host cannot make one', async () => {
    await create('new', ['sleep', '60'])
    await run('box', ['sleep', '60'])
    const wish = { ...NO_CHECKPOINT, imagePath: join(folder, 'image-of-it') }

    await expect(node.tasks.checkpoint(NS, 'new', wish)).rejects.toMatchObject({ code: 'unknown' })
    if (host.find('criu') === undefined)
      await expect(node.tasks.checkpoint(NS, 'box', wish)).rejects.toMatchObject({
        code: 'failed-precondition',
        message: expect.stringContaining('criu is not installed'),
      })
    const broken = join(folder, 'criu')
    writeFileSync(broken, '#!/bin/sh\necho looking >&2; echo "no such syscall" >&2; exit 1', { mode: 0o755 })
    await expect(requireCriu({ find: () => broken })).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringMatching(/does not work on this host: no such syscall$/),
    })
    writeFileSync(broken, '#!/bin/sh\n', { mode: 0o755 })
    await expect(requireCriu({ find: () => broken })).resolves.toBeUndefined()
    expect(node.tasks.find(NS, 'box', '').life.status).toBe('running')
  })

  test('a process that is always another one does not outlive its container', async () => {
    const namespaces = ALL_NAMESPACES.filter(({ type }) => type !== 'pid')
    const linux = { cgroupsPath: `/gantry-test-${process.pid}/box`, namespaces }
    const next = 'n() { n & exit; }; n & n & n & exec sleep 60'
    const { task } = await run('box', ['sh', '-c', next], {}, { linux }).then(() => node.tasks.find(NS, 'box', ''))
    await vi.waitFor(() => expect(pidsOf(task.cgroup ?? '').length).toBeGreaterThan(2), 10_000)

    await node.tasks.kill(NS, 'box', '', { signal: 9, all: true })

    await vi.waitFor(() => expect(pidsOf(task.cgroup ?? '')).toEqual([]), 10_000)
    expect(await exitOf('box')).toBe(137)
  })

  test('what a container uses is measured', async () => {
    await run('box', ['sleep', '60'])
    const { task } = node.tasks.find(NS, 'box', '')

    const metric = readMetrics('box', task.cgroup, 1000)

    expect(metric).toMatchObject({
      id: 'box',
      timestamp: { seconds: 1n },
      data: { typeUrl: expect.stringMatching(/^io.containerd.cgroups.v[12].Metrics$/) },
    })
    expect(metric?.data?.value?.length).toBeGreaterThan(20)
    expect(readMetrics('gone', '/gantry-test-gone', 0)).toBeUndefined()
  })

  test('a container gets no descriptor but its stdio', async () => {
    const out = join(folder, 'out.log')
    await run('box', ['ls', '/proc/self/fd'], { stdout: `file://${out}` })
    expect(await exitOf('box')).toBe(0)

    expect(readFileSync(out, 'utf8').trim().split('\n')).toEqual(['0', '1', '2', '3']) // 3 is the folder that ls reads
  })
})

function liveOf(life: { status: string; live?: Live }): Live {
  if (life.live === undefined) throw new Error(`Not alive: ${life.status}`)
  return life.live
}
