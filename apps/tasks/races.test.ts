import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mount, unmountAll } from '@gantry/linux/mount'
import { openStore } from '@gantry/store/store'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { adopt } from './adopt.ts'
import { bundleOf, bundlesIn } from './bundle.ts'
import { createEndings } from './ending.ts'
import { createRegistry } from './registry.ts'
import { plainRootfs } from './rootfs.ts'
import { openRows, processKey } from './rows.ts'
import type { Runtime, Watcher } from './runtime/runtime.ts'
import { noEntrance } from './sandbox/entrance.ts'
import type { Live } from './task.ts'
import { createTasks, type TasksParts } from './tasks.ts'

const NS = 'test'
const PROCESS = { pid: 2 ** 22 - 1, startTime: '0' } // nobody has it
const LIVE: Live = { process: PROCESS, monitor: PROCESS, input: null, output: null }
const QUIET = { stdin: '', stdout: '', stderr: '', terminal: false }
const never = new AbortController().signal

let folder: string
let node: ReturnType<typeof open>

/** A node whose runtime runs nothing, so that its answers come when a test wants them. */
function open() {
  const store = openStore(join(folder, 'records'))
  const watchers = new Map<string, Watcher>()
  const runtime = {
    create: vi.fn(async () => LIVE),
    start: vi.fn(),
    exec: vi.fn(async () => LIVE),
    kill: async () => true,
    killAll: async () => undefined,
    release: vi.fn(async () => undefined),
    delete: vi.fn(async () => undefined),
    endInput: vi.fn(),
    discard: vi.fn(),
    watch: vi.fn(({ execId }: { execId: string }, _live: Live, watcher: Watcher) => {
      watchers.set(execId, watcher)
      return { [Symbol.dispose]: () => void watchers.delete(execId) }
    }),
  }
  const told: string[] = []
  let failure: Error | undefined
  const log = vi.fn()
  const shared = {
    rows: openRows(store),
    write: async <T>(change: (emit: (ns: string, topic: string) => void) => T) => {
      if (failure) throw failure
      return store.write(() => change((_namespace, topic) => void told.push(topic)))
    },
    runtime: runtime as unknown as Runtime,
    networks: { attach: vi.fn(), detach: async () => undefined, sweep: async () => undefined },
    onEnd: () => undefined,
    ...{ boot: 'this', now: Date.now, log: { info: log, warn: log, error: log } as unknown as TasksParts['log'] },
  }
  const parts: TasksParts = {
    ...{ ...shared, registry: createRegistry(), endings: createEndings(shared), bundles: bundlesIn(folder) },
    limits: { unbounded: true, oomScoreAdj: 0, hard: new Map() },
    ...{ entrance: noEntrance, rootfs: plainRootfs },
  }
  return {
    ...{ parts, runtime, told, watchers, tasks: createTasks(parts) },
    failWrites: (error: Error | undefined) => {
      failure = error
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  }
}

const RUNTIME = {
  ...{
    binary: '',
    root: '',
    systemdCgroup: false,
    noPivot: false,
    noNewKeyring: false,
    ioUid: 0,
    ioGid: 0,
    shim: null,
  },
}
const ROW = { boot: 'this', runtime: RUNTIME, cgroup: null, sharesPids: false, oomSeen: false }

async function runBox(): Promise<void> {
  const options = { spec: Buffer.from('{}'), rootfs: [], stdio: QUIET, runtime: RUNTIME }
  await node.tasks.create(NS, 'box', options)
  await node.tasks.start(NS, 'box', '')
}

const exec = (execId: string) => node.tasks.exec(NS, 'box', execId, { stdio: QUIET, spec: '{}' })

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-races-'))
  node = open()
})

afterEach(async () => {
  await node[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

test('a start that waited for a deletion finds no exec, and runs nothing', async () => {
  await runBox()
  await exec('one')

  const deleted = node.tasks.deleteExec(NS, 'box', 'one')
  const started = node.tasks.start(NS, 'box', 'one')

  await expect(started).rejects.toMatchObject({ code: 'not-found' })
  await deleted
  expect(node.runtime.exec).not.toHaveBeenCalled()
  expect(node.parts.rows.processes.get(processKey(NS, 'box', 'one'))).toBeUndefined()
})

test('a second deletion of an exec leaves alone what got its id meanwhile', async () => {
  await runBox()
  await exec('one')

  const first = node.tasks.deleteExec(NS, 'box', 'one')
  const second = node.tasks.deleteExec(NS, 'box', 'one')
  second.catch(() => undefined)
  await first
  await exec('one')

  await expect(second).rejects.toMatchObject({ code: 'not-found' })
  expect(node.tasks.find(NS, 'box', 'one').life.status).toBe('added')
  expect(node.parts.rows.processes.get(processKey(NS, 'box', 'one'))).toBeDefined()
})

test('an exec whose start cannot be recorded is ended: nobody would ever hear of it', async () => {
  await runBox()
  await exec('one')
  const waiting = node.tasks.wait(NS, 'box', 'one', never)
  node.runtime.exec.mockImplementation(async () => {
    node.failWrites(new Error('the disk is full'))
    return LIVE
  })

  await expect(node.tasks.start(NS, 'box', 'one')).rejects.toThrow('the disk is full')

  expect(node.runtime.discard).toHaveBeenCalledWith(join(bundlesIn(folder), NS, 'box', 'execs', 'one'))
  expect((await waiting).life.status).toBe('failed')
  node.failWrites(undefined)
  await node.tasks.deleteExec(NS, 'box', 'one')
})

test.skipIf(process.getuid?.() !== 0)(
  'a task whose records are gone is gone, told of once, although its folder cannot be removed yet',
  async () => {
    await runBox()
    node.watchers.get('')?.onExit({ status: 0, atMs: 1 })
    await node.tasks.wait(NS, 'box', '', never)
    const { dir } = bundleOf(bundlesIn(folder), NS, 'box')
    mkdirSync(`${dir}/../.box`, { recursive: true })
    mount({ type: 'tmpfs', source: 'tmpfs', target: `${dir}/../.box`, options: [] })

    try {
      await node.tasks.deleteTask(NS, 'box')

      expect(existsSync(dir)).toBe(true)
      expect(node.parts.registry.all()).toEqual([])
      expect(node.told.filter((topic) => topic === '/tasks/delete')).toHaveLength(1)
    } finally {
      unmountAll(`${dir}/../.box`)
    }
  },
)

test('a start gets over records without a first process, and over files of strangers', async () => {
  const { rows, write, bundles } = node.parts
  await write(() => rows.tasks.put([NS, 'box'], ROW))
  writeFileSync(join(bundles, 'stray'), '')

  await adopt(node.parts)

  expect(node.parts.registry.all()).toEqual([])
  expect([...rows.tasks.list()]).toEqual([])
  await runBox()
})

test('an exec that was given up is watched no more', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  try {
    await runBox()
    await exec('one')
    await node.tasks.start(NS, 'box', 'one')

    node.watchers.get('')?.onExit({ status: 0, atMs: 1 })
    await vi.waitFor(() => expect(vi.getTimerCount()).toBeGreaterThan(0))
    vi.advanceTimersByTime(60_000)
    await node.tasks.wait(NS, 'box', '', never)

    expect([...node.watchers.keys()]).not.toContain('one')
  } finally {
    vi.useRealTimers()
  }
})

test('what a restore that was cut short has left is ended at the next start', async () => {
  const { rows, write } = node.parts
  const restore = { images: '/nosuch', workPath: '', owned: true }
  await write(() => {
    rows.tasks.put([NS, 'box'], { ...ROW, restore })
    rows.processes.put(processKey(NS, 'box', ''), { stdio: QUIET, spec: null, life: { status: 'added' } })
  })

  await adopt(node.parts)

  const task = node.parts.registry.find(NS, 'box')
  expect(node.runtime.discard).toHaveBeenCalledWith(task.bundle.processDir(''))
  expect(node.runtime.delete).toHaveBeenCalledWith(task)
  expect([task.init.life.status, task.restore]).toEqual(['added', restore])
})

test('what held the input of a process is ended at the next start, when its end was cut short after its record', async () => {
  const { rows, write } = node.parts
  const life = { status: 'stopped', live: LIVE, exit: { status: 0, atMs: 1 } } as const
  await write(() => {
    rows.tasks.put([NS, 'box'], ROW)
    rows.processes.put(processKey(NS, 'box', ''), { stdio: QUIET, spec: null, life })
    rows.processes.put(processKey(NS, 'box', 'one'), { stdio: QUIET, spec: '{}', life })
  })

  await adopt(node.parts)

  expect(node.runtime.endInput).toHaveBeenCalledTimes(2)
})
