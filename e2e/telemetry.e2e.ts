/** What a node tells of itself: metrics, traces, status. Only Gantry does it so. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, get } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, inject, test } from 'vitest'
import { type Outcome, run } from './harness/command.ts'
import { until } from './harness/daemon.ts'
import { GANTRY, gantryEnv, startGantry, WORKSPACE } from './harness/gantry.ts'
import { processOf } from './harness/kill.ts'
import { lastingTraces, removeNamespaceCgroups } from './harness/leaks.ts'
import type { Running } from './harness/running.ts'

const OWNERS = ['metadata', 'content', 'snapshots', 'tasks']
const SOCKETS: Readonly<Record<string, string>> = {
  gateway: 'gantry',
  ...Object.fromEntries(OWNERS.map((app) => [app, app])),
}

test('a node tells how it is: its metrics are those of the page, and one command is one trace', async () => {
  await using collector = await startCollector()
  await onNode(`[trace]\nendpoint = "${collector.url}"`, async (node, namespace) => {
    const env = gantryEnv(node.address, namespace)
    const image = inject('image')
    const gantry = (args: string[], more = {}) => run([GANTRY, ...args], { env: { ...env, ...more } })
    const done = { code: 0, stderr: '' }
    expect(await gantry(['pull', '--plain-http', image])).toMatchObject(done)
    expect(await gantry(['run', '-d', '--name', 'told', '-m', '64m', image, 'sleep', '1000'])).toMatchObject(done)

    await expectMetrics(node, namespace)

    const traced = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
    expect(await gantry(['run', '--rm', '--name', 'seen', image, 'true'], traced)).toMatchObject(done)
    await until('the trace is whole', () => lacksOf(collector.spans()).length === 0, {
      withinMs: 60_000,
      context: () => lacksOf(collector.spans()).join(', '),
    })

    expect(await gantry(['rm', '-f', 'told'])).toMatchObject(done)
  })
}, 180_000)

test('status says what is wrong, and that nothing is', async () => {
  await onNode('', async (node, namespace) => {
    const env = gantryEnv(node.address, namespace)
    /** Asked until it says so: on a busy machine a process may take its time to answer. */
    const status = async (code: number, args: string[], says: RegExp) => {
      let last: Outcome | undefined
      const isSo = async () => {
        last = await run([GANTRY, 'status', ...args], { env })
        return last.code === code && says.test(last.stdout + last.stderr)
      }
      await until(`status says ${says}`, isSo, { withinMs: 60_000, context: () => JSON.stringify(last) })
      return last?.stdout ?? ''
    }

    const healthy = JSON.parse(await status(0, ['--json'], /"healthy":true,"problems":\[\]/))
    expect(healthy.processes.map(({ name }: { name: string }) => name)).toEqual(['gateway', ...OWNERS, 'nats'])
    await status(0, [], /^content +0\.1\.0 +\d+ .* serving +0 +0 +\/.*content\.sock$/m)

    process.kill(processOf(node, 'content') ?? 0, 'SIGSTOP') // it neither answers nor ends
    const silent = /^gantry: not healthy: content is away at .*content\.sock: it has not answered for \d+ s\n$/m
    const table = await status(1, [], silent).finally(() => process.kill(processOf(node, 'content') ?? 0, 'SIGCONT'))

    expect(table).toMatch(/^content .* away /m)
    expect(table).toMatch(/^tasks .* serving /m)
  })
}, 180_000)

/** A node with a configuration of its own, in a folder of its own; nothing of it may be left. */
async function onNode(config: string, body: (node: Running, namespace: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'ge-'))
  const namespace = `e2e${dir.slice(-6)}`
  for (const folder of ['root', 'state']) mkdirSync(join(dir, folder))
  writeFileSync(join(dir, 'gantry.toml'), config)
  {
    await using node = await startGantry(join(dir, 'root'), join(dir, 'state'), ['--config', join(dir, 'gantry.toml')])
    await body(node, namespace)
  }
  removeNamespaceCgroups([namespace])
  expect(await lastingTraces({ dir, namespaces: [namespace], ids: new Set(['told', 'seen']) })).toEqual([])
  rmSync(dir, { recursive: true })
}

async function expectMetrics(node: Running, namespace: string): Promise<void> {
  const texts = new Map<string, string>()
  for (const [app, socket] of Object.entries(SOCKETS)) {
    const path = join(dirname(node.address), `${socket}.sock.metrics`)
    texts.set(app, await read(path))
  }
  const exposed = new Map<string, string[]>()
  for (const [app, text] of texts)
    for (const [, name = ''] of text.matchAll(/^# TYPE (\S+)/gm)) exposed.set(name, [...(exposed.get(name) ?? []), app])
  expect(Object.fromEntries(exposed)).toEqual(Object.fromEntries(documented()))

  const tasks = texts.get('tasks') ?? ''
  const labels = `{container_id="told",namespace="${namespace}"}`
  const sampleOf = (name: string): number => Number(tasks.split(`\n${name}${labels} `)[1]?.split('\n')[0])
  expect(sampleOf('container_memory_usage_limit_bytes')).toBe(64 * 1024 * 1024)
  for (const name of ['cpu_usage_usec_microseconds', 'memory_usage_bytes', 'pids_current'])
    expect(sampleOf(`container_${name}`)).toBeGreaterThan(0)
  expect(tasks).toContain('\ngantry_tasks{status="running"} 1\n')
  expect(tasks).toContain('\ngantry_events_total{topic="/tasks/start"} 1\n')
  expect(texts.get('content')).toMatch(/^gantry_pull_blobs_total\{result="fetched"\} 4$/m) // manifest, config, two layers
  expect(texts.get('content')).toMatch(/^gantry_pull_bytes_total [1-9]\d+$/m)
  expect(texts.get('snapshots')).toMatch(/^gantry_unpack_layers_total\{result="done"\} 2$/m)
  const create =
    'grpc_type="unary",grpc_service="containerd.services.tasks.v1.Tasks",grpc_method="Create",grpc_code="OK"'
  for (const app of ['gateway', 'tasks']) expect(texts.get(app)).toContain(`grpc_server_handled_total{${create}} 1\n`)
}

function read(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = get({ socketPath, path: '/metrics' }, async (answer) => {
      let text = ''
      for await (const chunk of answer.setEncoding('utf8')) text += chunk
      resolve(text)
    })
    asked.on('error', reject)
  })
}

/** Which processes have which metric, as docs/observability.md says. */
function documented(): [string, string[]][] {
  const page = readFileSync(join(WORKSPACE, 'docs', 'observability.md'), 'utf8')
  const of = (who: string): string[] => (who === 'all' ? ['gateway', ...OWNERS] : who === 'owners' ? OWNERS : [who])
  return Array.from(page.matchAll(/^\| `(\w+)` \| (\w+) \|/gm), ([, name = '', who = '']) => [name, of(who)])
}

/** What a trace of one command lacks: spans of each process, each of them with its parent in the same trace. */
function lacksOf(all: readonly Span[]): string[] {
  const wanted = [
    'gantry-cli gantry run',
    'gantry-gateway containerd.services.tasks.v1.Tasks/Create',
    'gantry-tasks containerd.services.tasks.v1.Tasks/Create',
    'gantry-tasks create container',
    'gantry-tasks start container',
    'gantry-metadata containerd.services.containers.v1.Containers/Create',
    'gantry-snapshots containerd.services.snapshots.v1.Snapshots/Prepare',
    'gantry-content containerd.services.content.v1.Content/Read',
  ]
  const root = all.find(({ name }) => name === 'gantry run')
  const spans = all.filter(({ traceId }) => traceId === root?.traceId)
  const byId = new Map(spans.map((span) => [span.spanId, span]))
  const names = new Set(spans.map(({ service, name }) => `${service} ${name}`))
  const create = spans.find(({ name }) => name === 'create container')
  const call = byId.get(create?.parentSpanId ?? '')
  const passed = byId.get(call?.parentSpanId ?? '')
  const path = [call?.service, passed?.service].join() === 'gantry-tasks,gantry-gateway' ? [] : ['the way of Create']
  const strays = spans.filter(({ parentSpanId = '' }) => parentSpanId !== '' && !byId.has(parentSpanId))
  return [
    ...wanted.filter((name) => !names.has(name)),
    ...path,
    ...strays.map(({ service, name }) => `the parent of ${service} ${name}`),
  ]
}

interface Span {
  readonly service: string
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
}

interface Report {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly { key: string; value: { stringValue?: string } }[] }
    readonly scopeSpans: readonly { readonly spans: readonly Omit<Span, 'service'>[] }[]
  }[]
}

/** Takes OTLP as JSON over HTTP. */
async function startCollector() {
  const spans: Span[] = []
  const server = createServer(async (asked, answer) => {
    let text = ''
    for await (const chunk of asked.setEncoding('utf8')) text += chunk
    for (const { resource, scopeSpans } of (JSON.parse(text) as Report).resourceSpans) {
      const service = resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue ?? ''
      spans.push(...scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ ...span, service }))))
    }
    answer.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const address = server.address()
  return {
    url: `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`,
    spans: () => spans,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
