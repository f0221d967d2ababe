/** Several gateways before one node: they keep nothing, so that any of them may go. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createClient, type GantryClient } from '@gantry/client/client'
import { expect, test } from 'vitest'
import { run } from './harness/command.ts'
import { startDaemon, until } from './harness/daemon.ts'
import { WORKSPACE } from './harness/gantry.ts'
import { signal } from './harness/kill.ts'
import { onGantry, type Target } from './harness/target.ts'

const never = new AbortController().signal

/** A second gateway of the same node, on a socket of its own. */
async function startGateway({ dir }: Target) {
  const socket = join(dir, 'second.sock')
  writeFileSync(join(dir, 'second.toml'), `[gateway]\nsocket = ${JSON.stringify(socket)}\n`)
  const folders = ['--root', join(dir, 'root'), '--state', join(dir, 'state')]
  const main = join(WORKSPACE, 'apps', 'gateway', 'main.ts')
  const daemon = startDaemon([process.execPath, main, ...folders, '--config', join(dir, 'second.toml')])
  await until('the second gateway answers', async () => (await run(['ctr', '-a', socket, 'version'])).code === 0, {
    context: daemon.log,
  })
  return { socket, [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose]() }
}

/** The topics that concern a container, as one gateway tells them; `ready` once the subscription stands. */
function listen(client: GantryClient, mark: string, stop: AbortSignal) {
  const heard: string[] = []
  const ready = Promise.withResolvers<void>()
  const over = (async () => {
    for await (const { topic, json } of client.events.subscribe({ from: new Date() }, stop)) {
      if (JSON.stringify(json).includes(mark)) ready.resolve()
      if (JSON.stringify(json).includes('"both"')) heard.push(topic)
    }
  })()
  return { heard, ready: ready.promise, over }
}

onGantry((target) => {
  test('a second gateway serves the same node: calls, waits and events of either are those of both', async () => {
    const image = await target().pull()
    await using second = await startGateway(target())
    const at = (address: string) => createClient({ address, namespace: target().namespace })
    await using here = at(target().address)
    await using there = at(second.socket)
    const stop = new AbortController()
    const listeners = [here, there].map((client) => listen(client, 'marked', stop.signal))
    await until('both subscriptions stand', async () => {
      await target().ctr(['namespaces', 'create', 'marked'])
      await target().ctr(['namespaces', 'rm', 'marked'])
      return (await Promise.all(listeners.map(({ ready }) => settled(ready)))).every(Boolean)
    })

    await target().ctr(['run', '-d', image, 'both', 'sleep', '1000'])
    const waits = [here, there].map((client) =>
      client.services.tasks.wait({ containerId: 'both' }, client.call(never)).then(({ exitStatus }) => exitStatus),
    )
    const seen = await there.services.tasks.list({}, there.call(never))
    await there.services.tasks.kill({ containerId: 'both', signal: 9, all: true }, there.call(never))
    const exits = await Promise.all(waits)
    await run(['ctr', '-a', second.socket, '-n', target().namespace, 'tasks', 'rm', 'both'])
    await target().ctr(['containers', 'rm', 'both'])
    await until('both have heard the end', () => listeners.every(({ heard }) => heard.includes('/containers/delete')))

    expect(seen.tasks.map(({ id }) => id)).toContain('both')
    expect(exits).toEqual([137, 137])
    expect(listeners[0]?.heard).toEqual(listeners[1]?.heard)

    await signal(target(), 'gateway', 'SIGKILL')
    await here.services.leases.create({ id: 'both' }, here.call(never)).catch(() => undefined) // the first may be away
    await there.services.leases.create({ id: 'both' }, there.call(never)).catch(() => undefined)
    const alive = await there.services.leases.list({}, there.call(never))
    await there.services.leases.delete({ id: 'both' }, there.call(never))
    await until('the first is back', async () => (await target().ctr(['version'])).code === 0)
    stop.abort()
    await Promise.all(listeners.map(({ over }) => over))

    expect(alive.leases.map(({ id }) => id)).toContain('both')
  })
})

/** Is it fulfilled by now? */
function settled(promise: Promise<void>): Promise<boolean> {
  return Promise.race([promise.then(() => true), new Promise<boolean>((resolve) => setTimeout(resolve, 10, false))])
}
