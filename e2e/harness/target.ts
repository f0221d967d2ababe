/**
 * The daemon under test. Every suite that says "as containerd does" runs twice, against Debian's containerd and against Gantry, with
 * the same commands and the same expectations, so an expectation that is wrong about containerd fails first.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, inject } from 'vitest'
import { type CommandOptions, type Outcome, run, runOnTerminal } from './command.ts'
import { startContainerd } from './containerd.ts'
import { until } from './daemon.ts'
import { startGantry } from './gantry.ts'
import { lastingTraces, removeNamespaceCgroups, type Scope, traces } from './leaks.ts'
import type { Running } from './running.ts'
import { rows, words } from './text.ts'

export type TargetName = 'containerd' | 'gantry'

export interface Target extends AsyncDisposable, Running {
  readonly name: TargetName
  /** root, state and everything else lie in here */
  readonly dir: string
  /** used by no other target */
  readonly namespace: string
  ctr(args: readonly string[], options?: CommandOptions): Promise<Outcome>
  ctrOnTerminal(args: readonly string[], options?: CommandOptions): Promise<Outcome>
  /** another namespace only this target uses; it is watched for leaks too */
  anotherNamespace(): string
  /** pulls the image of the registry all suites share (or another) and returns its reference */
  pull(reference?: string): Promise<string>
  /** fails unless nothing is left of the containers that ran */
  expectNoTraces(): Promise<void>
  /** ends and removes every container, for the sake of the tests after one that failed */
  sweep(): Promise<void>
}

/** With GANTRY_E2E_EAGER=1 collections follow each other closely, so what a test uses and nothing holds is soon gone. */
const EAGER = process.env.GANTRY_E2E_EAGER === '1'
const EAGERLY = ['pause_threshold = 0.5', 'deletion_threshold = 1', 'mutation_threshold = 1']

async function start(name: TargetName, dir: string): Promise<Running> {
  const folders = [join(dir, 'root'), join(dir, 'state')] as const
  const table = name === 'gantry' ? '[metadata.gc]' : '[plugins."io.containerd.gc.v1.scheduler"]'
  const lines = EAGER ? [table, ...EAGERLY] : []
  if (name === 'containerd') return startContainerd(...folders, lines)
  writeFileSync(join(dir, 'gantry.toml'), lines.join('\n'))
  return startGantry(...folders, ['--config', join(dir, 'gantry.toml')])
}

/** Short, because a socket's path may not be longer than 107 bytes. */
async function startTarget(name: TargetName): Promise<Target> {
  const dir = mkdtempSync(join(tmpdir(), name === 'gantry' ? 'ge-' : 'ce-'))
  mkdirSync(join(dir, 'root'))
  mkdirSync(join(dir, 'state'))
  const namespaces = [`e2e${dir.slice(-6)}`]
  const namespace = namespaces[0] ?? ''
  const ids = new Set<string>() // every argument of ctr that may be one
  const running = await start(name, dir)
  const scope: Scope = { dir, namespaces, daemons: () => running.pids(), ids }
  const ctr = ['ctr', '-a', running.address]
  const env = { CONTAINERD_NAMESPACE: namespace }
  const withRuntime = (args: readonly string[]) =>
    args[0] === 'run' ? ['run', '--runtime', RUNTIME, ...args.slice(1)] : args

  async function sweep() {
    for (const used of namespaces) {
      const inside = [...ctr, '-n', used]
      for (const id of words((await run([...inside, 'tasks', 'ls', '-q'])).stdout))
        await run([...inside, 'tasks', 'rm', '-f', id])
      for (const id of words((await run([...inside, 'containers', 'ls', '-q'])).stdout))
        await run([...inside, 'containers', 'rm', id])
      for (const [key = ''] of rows((await run([...inside, 'snapshots', 'ls'])).stdout).filter(
        (row) => row.at(-1) === 'Active',
      ))
        await run([...inside, 'snapshots', 'rm', key])
    }
  }

  async function expectNoTraces() {
    let found = { traces: left(), strayFolders: 0 }
    const clean = async () => {
      found = { traces: left(), strayFolders: Math.max(0, await strayFolders()) }
      return found.traces.length + found.strayFolders === 0
    }
    await until('nothing is left behind', clean, { withinMs: 20_000 }).catch(() => {})
    expect(found).toEqual({ traces: [], strayFolders: 0 }) // looked at once: a collection may begin right after
  }

  /** Folders of snapshots without a record. */
  async function strayFolders() {
    const lists = await Promise.all(namespaces.map((used) => run([...ctr, '-n', used, 'snapshots', 'ls'])))
    const records = lists.flatMap(({ stdout }) => stdout.trimEnd().split('\n').slice(1))
    return folderCount(running.snapshotFolders) - records.length
  }
  const left = () => traces(scope)

  return {
    ...running,
    name,
    dir,
    namespace,
    sweep,
    expectNoTraces,
    async pull(reference = inject('image')) {
      const pulled = await run([...ctr, 'images', 'pull', '--plain-http', reference], { env })
      if (pulled.code !== 0) throw new Error(`Cannot pull: ${pulled.stderr}`)
      return reference
    },
    ctr(args, options) {
      for (const arg of args) ids.add(arg)
      return run([...ctr, ...withRuntime(args)], { ...options, env: { ...env, ...options?.env } })
    },
    ctrOnTerminal(args, options) {
      for (const arg of args) ids.add(arg)
      return runOnTerminal([...ctr, ...withRuntime(args)], { ...options, env: { ...env, ...options?.env } })
    },
    anotherNamespace() {
      namespaces.push(`${namespace}x${namespaces.length}`)
      return namespaces.at(-1) ?? ''
    },
    async [Symbol.asyncDispose]() {
      try {
        await sweep()
        await running.daemon.stop()
      } finally {
        removeNamespaceCgroups(namespaces)
        const remains = await lastingTraces({ ...scope, daemons: () => [] })
        if (remains.length === 0) rmSync(dir, { recursive: true, force: true })
        expect(remains).toEqual([])
      }
    },
  }
}

/** Runs every container by another runtime, such as `/usr/bin/containerd-shim-runc-v2`. */
export const RUNTIME = process.env.GANTRY_E2E_RUNTIME ?? 'io.containerd.runc.v2'

const NAMES = (process.env.GANTRY_E2E_TARGETS ?? 'containerd,gantry').split(',') as TargetName[]

/** Declares tests, on the target of this name. */
type Declare = (target: () => Target, name: TargetName) => void

/** Declares the same tests for every target. One daemon serves the file; after each test the host must be clean again. */
export function onEveryTarget(declare: Declare, names: readonly TargetName[] = ['containerd', 'gantry']): void {
  for (const name of names.filter((name) => NAMES.includes(name))) declareOn(name, declare)
}

/** What containerd itself does once in a thousand times is not what is judged here; Gantry gets no second try. */
const RETRIES: Readonly<Record<TargetName, number>> = { containerd: 2, gantry: 0 }

function declareOn(name: TargetName, declare: Declare): void {
  describe(name, { retry: RETRIES[name] }, () => {
    let target: Target | undefined
    const current = () => {
      if (!target) throw new Error(`${name} did not start`)
      return target
    }
    beforeAll(async () => {
      target = await startTarget(name)
    }, 60_000)
    afterEach(async (context) => {
      if (!target) return
      if (context.task.result?.state === 'fail') await target.sweep()
      await target.expectNoTraces()
    }, 60_000)
    afterAll(async () => {
      await target?.[Symbol.asyncDispose]()
    }, 60_000)
    declare(current, name)
  })
}

/** Debian's containerd shows what is right; a suite that tests what only Gantry does runs on Gantry alone. */
export function onGantry(declare: Declare): void {
  onEveryTarget(declare, ['gantry'])
}

function folderCount(dir: string): number {
  try {
    return readdirSync(dir).length
  } catch {
    return 0 // no snapshot was made yet
  }
}
