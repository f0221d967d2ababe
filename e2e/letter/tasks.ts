/** Rules of tasks and of events (behaviour facts, 9 and 10). */
import { createClient } from '@gantry/client/client'
import { expect } from 'vitest'
import { code, codes, type Node, RUNTIME, type Rule, SPEC, same } from './node.ts'

const SIGKILL = 9
const SIGTERM = 15
const ZERO_SECONDS = -62135596800n // the year 1

export const TASKS: readonly Rule[] = [
  {
    rule: '9 a call about a task nobody knows is not found, and a list does not mind',
    check: async (it) => {
      const task = { containerId: 'nosuch' }
      const calls = {
        create: () => it.tasks.create(task, it.call()),
        start: () => it.tasks.start(task, it.call()),
        delete: () => it.tasks.delete(task, it.call()),
        deleteProcess: () => it.tasks.deleteProcess({ ...task, execId: 'e' }, it.call()),
        get: () => it.tasks.get(task, it.call()),
        kill: () => it.tasks.kill({ ...task, signal: SIGTERM }, it.call()),
        exec: () => it.tasks.exec({ ...task, execId: 'e', spec: SPEC }, it.call()),
        resizePty: () => it.tasks.resizePty(task, it.call()),
        closeIO: () => it.tasks.closeIO({ ...task, stdin: true }, it.call()),
        pause: () => it.tasks.pause(task, it.call()),
        resume: () => it.tasks.resume(task, it.call()),
        listPids: () => it.tasks.listPids(task, it.call()),
        update: () => it.tasks.update({ ...task, resources: SPEC }, it.call()),
        wait: () => it.tasks.wait(task, it.call()),
      }
      expect(await codes(calls)).toEqual(same(Object.keys(calls), 'not-found'))
      await it.containers.create({ container: { id: 'nosuch', runtime: RUNTIME, spec: SPEC } }, it.call())
      const { create: _, ...others } = calls
      expect(await codes(others)).toEqual(same(Object.keys(others), 'not-found'))
      await it.containers.delete({ id: 'nosuch' }, it.call())
      expect(await it.tasks.list({ filter: '((' }, it.call())).toMatchObject({ tasks: [] })
      expect(await it.tasks.metrics({}, it.call())).toMatchObject({ metrics: [] })
    },
  },
  {
    rule: '9.1 what a task answers in each of its states',
    check: async (it) => {
      await using made = await makeTask(it, 't')
      const task = { containerId: 't' }
      const status = async () => (await it.tasks.get(task, it.call())).process?.status
      const resources = {
        typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources',
        value: Buffer.from('{}'),
      }
      const refused = (...names: ('start' | 'pause' | 'resume' | 'delete' | 'update' | 'exec')[]) =>
        codes(
          Object.fromEntries(
            names.map((name) => [
              name,
              () =>
                name === 'exec'
                  ? it.tasks.exec({ ...task, execId: 'x', spec: made.process }, it.call())
                  : name === 'update'
                    ? it.tasks.update({ ...task, resources }, it.call())
                    : it.tasks[name](task, it.call()),
            ]),
          ),
        )

      expect(await code(it.tasks.create(task, it.call()))).toBe('already-exists')
      expect(await status()).toBe(1)
      expect(await refused('pause', 'resume')).toEqual(same(['pause', 'resume'], 'unknown'))
      await it.tasks.start(task, it.call())
      expect((await it.tasks.get(task, it.call())).process).toMatchObject({
        status: 2,
        exitStatus: 0,
        exitedAt: { seconds: ZERO_SECONDS },
      })
      expect(await refused('start', 'resume', 'delete')).toEqual(same(['start', 'resume', 'delete'], 'unknown'))
      expect(await refused('update')).toEqual({ update: 'ok' })
      await it.tasks.pause(task, it.call())
      expect(await status()).toBe(4)
      expect(await refused('start', 'pause', 'delete', 'exec')).toEqual(
        same(['start', 'pause', 'delete', 'exec'], 'unknown'),
      )
      await it.tasks.resume(task, it.call())
      expect(await status()).toBe(2)
      const waiting = it.tasks.wait(task, it.call())
      await it.tasks.kill({ ...task, signal: SIGKILL }, it.call())
      expect(await waiting).toMatchObject({ exitStatus: 128 + SIGKILL })
      expect(await it.tasks.wait(task, it.call())).toMatchObject({ exitStatus: 128 + SIGKILL })
      expect((await it.tasks.get(task, it.call())).process).toMatchObject({ status: 3, exitStatus: 137 })
      expect(await refused('start', 'pause', 'resume', 'exec', 'update')).toEqual(
        same(['start', 'pause', 'resume', 'exec', 'update'], 'unknown'),
      )
      expect(await code(it.tasks.kill({ ...task, signal: SIGKILL }, it.call()))).toBe('not-found')
      expect(await it.tasks.delete(task, it.call())).toMatchObject({ id: '', exitStatus: 137 })
      expect(
        await codes({
          get: () => it.tasks.get(task, it.call()),
          delete: () => it.tasks.delete(task, it.call()),
          wait: () => it.tasks.wait(task, it.call()),
        }),
      ).toEqual(same(['get', 'delete', 'wait'], 'not-found'))
    },
  },
  {
    rule: '9.2 execs: their ids, what they refuse, and what becomes of one that cannot start',
    check: async (it) => {
      await using made = await makeTask(it, 't')
      const task = { containerId: 't' }
      await it.tasks.start(task, it.call())
      const exec = (execId: string, args = ['sleep', '1000']) =>
        it.tasks.exec({ ...task, execId, spec: made.processOf(args) }, it.call())
      const named = (execId: string) => ({ ...task, execId })

      expect(
        await codes({ none: () => exec(''), bad: () => exec('a/b'), first: () => exec('e'), again: () => exec('e') }),
      ).toEqual({ none: 'invalid-argument', bad: 'invalid-argument', first: 'ok', again: 'already-exists' })
      expect(
        await codes({
          start: () => it.tasks.start(named('nosuch'), it.call()),
          kill: () => it.tasks.kill({ ...named('nosuch'), signal: 9 }, it.call()),
          get: () => it.tasks.get(named('nosuch'), it.call()),
          delete: () => it.tasks.deleteProcess(named('nosuch'), it.call()),
        }),
      ).toEqual(same(['start', 'kill', 'get', 'delete'], 'not-found'))
      expect(await code(it.tasks.kill({ ...named('e'), signal: SIGKILL }, it.call()))).toBe('failed-precondition')
      await it.tasks.start(named('e'), it.call())
      expect(await code(it.tasks.deleteProcess(named('e'), it.call()))).toBe('unknown')
      const { processes } = await it.tasks.listPids(task, it.call())
      expect(processes.map(({ info }) => info?.typeUrl ?? '').sort()).toEqual(['', 'containerd.runc.v1.ProcessDetails'])
      await it.tasks.kill({ ...named('e'), signal: SIGKILL }, it.call())
      await it.tasks.wait(named('e'), it.call())
      expect(await code(it.tasks.kill({ ...named('e'), signal: SIGKILL }, it.call()))).toBe('not-found')
      expect(await code(exec('e'))).toBe('already-exists')
      expect(await it.tasks.deleteProcess(named('e'), it.call())).toMatchObject({ id: 'e', exitStatus: 137 })
      await exec('e', ['nosuchprogram'])
      expect(await code(it.tasks.start(named('e'), it.call()))).toBe('unknown')
      expect((await it.tasks.get(named('e'), it.call())).process).toMatchObject({ status: 1, pid: 0 })
      expect(await it.tasks.wait(named('e'), it.call())).toMatchObject({
        exitStatus: 0,
        exitedAt: { seconds: ZERO_SECONDS },
      })
      expect(await code(it.tasks.deleteProcess(named('e'), it.call()))).toBe('ok')
      expect(
        await codes({
          resize: () => it.tasks.resizePty({ ...task, width: 3, height: 3 }, it.call()),
          closeIO: () => it.tasks.closeIO(task, it.call()),
          stdin: () => it.tasks.closeIO({ ...task, stdin: true }, it.call()),
        }),
      ).toEqual(same(['resize', 'closeIO', 'stdin'], 'ok'))
    },
  },
  {
    rule: '9.2 a create with options of another kind, or a runtime that is none',
    check: async (it) => {
      await it.containers.create({ container: { id: 't', runtime: RUNTIME, spec: SPEC } }, it.call())
      expect(
        await codes({
          options: () =>
            it.tasks.create(
              { containerId: 't', options: { typeUrl: 'x.Options', value: Buffer.from([8, 1]) } },
              it.call(),
            ),
          relative: () => it.tasks.create({ containerId: 't', runtimePath: 'a/b' }, it.call()),
          missing: () => it.tasks.create({ containerId: 't', runtimePath: '/nosuch/shim' }, it.call()),
        }),
      ).toMatchObject({ options: 'unknown' })
      await it.containers.delete({ id: 't' }, it.call())
    },
  },
  {
    rule: '10 an envelope needs a namespace, a time and a topic',
    check: async (it) => {
      const good = { timestamp: { seconds: 1n }, namespace: 'n', topic: '/t', event: SPEC }
      const forward = (change: object) => it.events.forward({ envelope: { ...good, ...change } }, it.call())
      expect(
        await codes({
          good: () => forward({}),
          namespace: () => forward({ namespace: 'a b' }),
          none: () => forward({ namespace: '' }),
          time: () => forward({ timestamp: undefined }),
          topic: () => forward({ topic: 't' }),
        }),
      ).toEqual({ good: 'ok', ...same(['namespace', 'none', 'time', 'topic'], 'invalid-argument') })
    },
  },
  {
    rule: '1.6, 10 each change tells its event, in order, by a bare type',
    check: async (it) => {
      await using heard = await listen(it)
      const target = { digest: `sha256:${'a'.repeat(64)}`, size: 1n, mediaType: 'x/y' }
      const told = it.call({ namespace: 'told' })
      await it.namespaces.create({ namespace: { name: 'told', labels: { a: '1' } } }, told)
      await it.namespaces.update({ namespace: { name: 'told', labels: { a: '2' } } }, told)
      await it.namespaces.delete({ name: 'told' }, told)
      await it.containers.create({ container: { id: 'c', runtime: RUNTIME, spec: SPEC } }, it.call())
      await it.containers.update(
        { container: { id: 'c', labels: { a: '1' } }, updateMask: { paths: ['labels'] } },
        it.call(),
      )
      await it.containers.delete({ id: 'c' }, it.call())
      await it.images.create({ image: { name: 'i', target } }, it.call())
      await it.images.update({ image: { name: 'i', target } }, it.call())
      await it.images.delete({ name: 'i' }, it.call())
      await it.leases.create({ id: 'l' }, it.call())
      const held = it.call({ lease: 'l' })
      await it.snapshots.view({ snapshotter: 'overlayfs', key: 'v' }, held)
      await it.snapshots.prepare({ snapshotter: 'overlayfs', key: 's' }, held)
      await it.snapshots.commit({ snapshotter: 'overlayfs', key: 's', name: 'n' }, held)
      for (const key of ['v', 'n']) await it.snapshots.remove({ snapshotter: 'overlayfs', key }, held)
      await it.leases.delete({ id: 'l' }, it.call())

      expect(await heard.until('/snapshot/remove', 2)).toEqual([
        ...['create', 'update', 'delete'].map(
          (what) => `told /namespaces/${what} containerd.events.Namespace${title(what)}`,
        ),
        ...['create', 'update', 'delete'].map(
          (what) => `${it.namespace} /containers/${what} containerd.events.Container${title(what)}`,
        ),
        ...['create', 'update', 'delete'].map(
          (what) => `${it.namespace} /images/${what} containerd.services.images.v1.Image${title(what)}`,
        ),
        ...['prepare', 'commit', 'remove', 'remove'].map(
          (what) => `${it.namespace} /snapshot/${what} containerd.events.Snapshot${title(what)}`,
        ),
      ])
    },
  },
]

const title = (word: string) => `${word[0]?.toUpperCase()}${word.slice(1)}`

interface Made extends AsyncDisposable {
  readonly process: { typeUrl: string; value: Uint8Array }
  processOf(args: readonly string[]): { typeUrl: string; value: Uint8Array }
}

/** A container with a task that is created, not started. What is left of it goes at the end. */
async function makeTask(it: Node, id: string): Promise<Made> {
  const client = createClient({ address: it.address, namespace: it.namespace })
  const signal = AbortSignal.timeout(30_000)
  const container = await client.containers.create({ id, image: it.image, spec: { args: ['sleep', '1000'] } }, signal)
  await client.tasks.create(container, { stdio: {} }, signal)
  const { container: record } = await it.containers.get({ id }, it.call())
  const { process } = JSON.parse(Buffer.from(record?.spec?.value ?? []).toString())
  const processOf = (args: readonly string[]) => ({
    typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Process',
    value: Buffer.from(JSON.stringify({ ...process, args })),
  })
  return {
    process: processOf(['true']),
    processOf,
    async [Symbol.asyncDispose]() {
      const task = { containerId: id }
      await code(it.tasks.resume(task, it.call()))
      await code(it.tasks.kill({ ...task, signal: SIGKILL, all: true }, it.call()))
      await code(it.tasks.wait(task, it.call()))
      await code(it.tasks.delete(task, it.call()))
      await client.containers.delete(id, {}, AbortSignal.timeout(30_000))
      await client[Symbol.asyncDispose]()
    },
  }
}

/** Listens from the moment an event is known to arrive: before the first one nothing tells that. */
async function listen(it: Node): Promise<AsyncDisposable & { until(topic: string, times: number): Promise<string[]> }> {
  const hangup = new AbortController()
  const seen: string[] = []
  const reading = (async () => {
    for await (const { namespace, topic, event } of it.events.subscribe({}, it.call({ signal: hangup.signal })))
      seen.push(`${namespace} ${topic} ${event?.typeUrl}`)
  })().catch(() => undefined)
  const isMark = (line: string) => line.includes(' /mark ')
  const wait = async (done: () => boolean, before: () => Promise<unknown>) => {
    for (const end = Date.now() + 20_000; !done() && Date.now() < end; ) {
      await before()
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  await wait(
    () => seen.length > 0,
    () => it.events.publish({ topic: '/mark', event: SPEC }, it.call()),
  )
  return {
    async until(topic, times) {
      await wait(
        () => seen.filter((line) => line.includes(` ${topic} `)).length >= times,
        async () => undefined,
      )
      return seen.filter((line) => !isMark(line) && (line.startsWith('told ') || line.startsWith(`${it.namespace} `)))
    },
    async [Symbol.asyncDispose]() {
      hangup.abort()
      await reading
    },
  }
}
