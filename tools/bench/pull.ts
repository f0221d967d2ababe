/**
 * Pulls of large images, Gantry beside Debian's containerd: the same registry on loopback, in turns (A B A B), each time a daemon that
 * holds nothing and has pulled a small image before, on a fresh disk. What the registry serves and the programs of both sides are in
 * the page cache, or with `--cold` nothing is.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { run } from '@gantry/e2e/harness/command'
import { startContainerd } from '@gantry/e2e/harness/containerd'
import { GANTRY, gantryEnv, startGantry } from '@gantry/e2e/harness/gantry'
import { MANIFEST } from '@gantry/e2e/harness/image'
import { commandOf } from '@gantry/e2e/harness/leaks'
import { peakOf } from '@gantry/e2e/harness/memory'
import { type Registry, startRegistry } from '@gantry/e2e/harness/registry'
import type { Running } from '@gantry/e2e/harness/running'
import { cpuMsOf } from './cpu.ts'
import { freshDisk } from './disk.ts'
import { LARGE, prepareFixtures } from './fixtures.ts'
import { beginProbe, type Probed, probeFolder, readProbe, startProbed } from './probing.ts'

const NAMESPACE = 'gantrybench'
const TIMEOUT_MS = 300_000

interface Side {
  readonly name: 'containerd' | 'gantry'
  start(root: string, state: string): Promise<Running>
  /** The command that fetches, or fetches and unpacks. */
  command(what: What, reference: string): readonly string[]
  /** The process that stores blobs. */
  isKeeper(command: string): boolean
}
type What = 'fetch' | 'pull'

const SIDES: readonly Side[] = [
  {
    name: 'containerd',
    start: startContainerd,
    command: (what, reference) =>
      what === 'fetch'
        ? ['ctr', 'content', 'fetch', '--plain-http', reference]
        : ['ctr', 'images', 'pull', '--plain-http', reference],
    isKeeper: () => true,
  },
  {
    name: 'gantry',
    start: startGantry,
    command: (what, reference) => [GANTRY, 'pull', '-q', ...(what === 'fetch' ? ['--no-unpack'] : []), reference],
    isKeeper: (command) => /apps\/content\/(dist\/)?main/.test(command),
  },
]

interface Figures {
  readonly ms: number
  /** Of all processes of the node. */
  readonly cpuMs: number
  readonly peakMiB: number
  /** What `snapshots` told of itself, when it is Gantry's. */
  readonly probed: Probed | undefined
}

const { values: options } = parseArgs({
  options: {
    cold: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
  },
})

async function main(): Promise<void> {
  // kept between runs: making it takes longer than measuring
  const data = join(process.env.XDG_CACHE_HOME ?? tmpdir(), 'gantry-bench', 'registry-1')
  mkdirSync(data, { recursive: true })
  await prepareFixtures(data)
  await using registry = await startRegistry({ data })
  console.log(
    `${'median'.padEnd(14)}${'containerd'.padStart(22)}${'gantry'.padStart(22)}  gantry/containerd   CPU of the node   peak memory of the process that stores blobs`,
  )
  for (const what of ['fetch', 'pull'] as const)
    for (const image of Object.keys(LARGE))
      if (`${what} ${image}`.includes(options.only))
        print(`${what} ${image}`, await compare(what, { registry, image, data }))
}

interface Subject {
  readonly registry: Registry
  readonly image: string
  /** the registry's folder */
  readonly data: string
}

async function compare(what: What, subject: Subject): Promise<{ bytes: number; figures: Figures[][] }> {
  const figures: Figures[][] = SIDES.map(() => [])
  for (let round = 0; round < Number(options.rounds); round++)
    for (const [index, side] of SIDES.entries()) figures[index]?.push(await measure(side, what, subject))
  const bytes = await sizeOf(`http://${subject.registry.host}/v2/${subject.image}/manifests/1`)
  return { bytes, figures }
}

async function measure(side: Side, what: What, { registry, image, data }: Subject): Promise<Figures> {
  using disk = freshDisk()
  using probe = probeFolder()
  const [root, state] = [join(disk.dir, 'r'), join(disk.dir, 's')]
  for (const folder of [root, state]) mkdirSync(folder)
  const isProbed = side.name === 'gantry' && what === 'pull' // to look on takes time, too
  const start = () => side.start(root, state)
  await using node = isProbed ? await startProbed(probe.folder, start) : await start()
  const transfer = async (name: string) => {
    const env = {
      ...gantryEnv(node.address, NAMESPACE),
      CONTAINERD_ADDRESS: node.address,
      CONTAINERD_NAMESPACE: NAMESPACE,
    }
    const argv = side.command(what, `${registry.host}/${name}:1`)
    const { code, stderr } = await run(argv, { env, timeoutMs: TIMEOUT_MS })
    if (code !== 0)
      throw new Error(`${argv.join(' ')} ended with ${code}: ${stderr}\n${node.daemon.log().slice(-3000)}`)
  }
  if (!options.cold) settlePageCache(data)
  await transfer('small') // the programs of both sides, their clients' too, are in memory then
  if (options.cold) settlePageCache(data)
  execFileSync('sync')
  if (isProbed) await beginProbe(probe.folder)
  const [from, cpuStart] = [performance.now(), cpuMsOf(node.pids())]
  await transfer(image)
  const [ms, cpuMs] = [performance.now() - from, cpuMsOf(node.pids()) - cpuStart]
  const probed = isProbed ? await readProbe(probe.folder) : undefined
  const keepers = node.pids().filter((pid) => side.isKeeper(commandOf(pid)))
  return { ms, cpuMs, peakMiB: Math.max(...keepers.map(peakOf)), probed }
}

/** Nothing of an earlier measurement waits to be written; what the registry has is all in memory, or all on disk. */
function settlePageCache(data: string): void {
  execFileSync('sync')
  writeFileSync('/proc/sys/vm/drop_caches', '3')
  if (!options.cold) execFileSync('sh', ['-c', 'exec find "$0" -type f -exec cat {} + >/dev/null', data])
}

async function sizeOf(url: string): Promise<number> {
  const response = await fetch(url, { headers: { accept: MANIFEST } })
  const { layers } = (await response.json()) as { layers: { size: number }[] }
  return layers.reduce((sum, { size }) => sum + size, 0)
}

function print(title: string, { bytes, figures }: { bytes: number; figures: Figures[][] }): void {
  const medians = figures.map((side) => median(side.map(({ ms }) => ms)))
  const cpu = figures.map((side) => `${(median(side.map(({ cpuMs }) => cpuMs)) / 1000).toFixed(2)} s`)
  const peaks = figures.map((side) => Math.max(...side.map(({ peakMiB }) => peakMiB)))
  const texts = medians.map((ms) =>
    `${(ms / 1000).toFixed(2)} s ${(bytes / 1e6 / (ms / 1000)).toFixed(0)} MB/s`.padStart(22),
  )
  const [containerd = Number.NaN, gantry = Number.NaN] = medians
  console.log(
    `${title.padEnd(14)}${texts.join('')}  ${(gantry / containerd).toFixed(2).padEnd(19)} ${cpu.join(' / ').padEnd(17)} ${peaks.map((mib) => `${mib.toFixed(0)} MiB`).join(' / ')}`,
  )
  const best = figures.flat().toSorted((a, b) => a.ms - b.ms)
  for (const { ms, probed } of best.filter(({ probed }) => probed?.stages.bytes).slice(0, 1)) printProbed(ms, probed)
}

/** What `snapshots` did in the fastest round: stages are sums of all layers, which were side by side. */
function printProbed(ms: number, probed: Probed | undefined): void {
  const { bytes = 0, inodes = 0, ...stages } = probed?.stages ?? {}
  const rate = (count: number) => ((count / ms) * 1000).toFixed(0)
  const times = Object.entries(stages).map(([stage, spent]) => `${stage} ${spent.toFixed(0)}`)
  console.log(`  ${rate(inodes)} files/s, ${rate(bytes / 1e6)} MB/s plain; in ms of all layers: ${times.join(', ')}`)
  console.log(
    `  snapshots: event loop held up for ${probed?.heldMs.toFixed(0)} ms at most, ${probed?.workedMs.toFixed(0)} ms but for waiting for a processor; peak memory ${probed?.peakMiB.toFixed(0)} MiB`,
  )
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

await main()
