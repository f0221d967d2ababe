/**
 * The demo: an image from Debian's busybox goes into a local registry, a node starts in a temporary folder, the image is pulled, a
 * container runs, and everything is stopped again. Fails when anything it made is left on the host.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inherit } from '../e2e/harness/command.ts'
import { GANTRY, gantryEnv, startGantry } from '../e2e/harness/gantry.ts'
import { makeImage } from '../e2e/harness/image.ts'
import { lastingTraces, removeNamespaceCgroups } from '../e2e/harness/leaks.ts'
import { startRegistry } from '../e2e/harness/registry.ts'

const NAMESPACE = 'demo'
const LOOK_AROUND = [
  'echo "hostname:     $(hostname)"',
  'echo "user:         $(id)"',
  'echo "environment: " $(env | sort)',
  'echo "memory limit: $(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null | head -n 1) bytes"',
  'echo "processes:    $(ps | wc -l)"',
].join('; ')

const dir = mkdtempSync(join(tmpdir(), 'gd-'))
try {
  await demo()
} catch (error) {
  console.error(`\nThe demo failed: ${error instanceof Error ? error.message : error}`)
  process.exitCode = 1
} finally {
  removeNamespaceCgroups([NAMESPACE])
  const remains = await lastingTraces({ dir, namespaces: [NAMESPACE] })
  if (remains.length === 0) rmSync(dir, { recursive: true })
  console.log(
    remains.length === 0 ? '\nNo process, mount, cgroup or file is left.' : `\nLeft behind:\n  ${remains.join('\n  ')}`,
  )
  if (remains.length > 0) process.exitCode = 1
}

async function demo(): Promise<void> {
  const [root, state] = [join(dir, 'root'), join(dir, 'state')]
  mkdirSync(root)
  mkdirSync(state)
  const wanted = process.env.IMAGE
  await using registry = wanted ? undefined : await startRegistry()
  const image = wanted ?? (await registry?.push('busybox', 'demo', makeImage())) ?? ''
  title(wanted ? `The image is ${image}` : `A two-layer image of busybox is in a registry on this machine: ${image}`)

  title('A node starts: gantry up (gateway, metadata, content, snapshots, tasks, nats-server)')
  await using node = await startGantry(root, state)
  const env = gantryEnv(node.address, NAMESPACE)
  const step = async (args: readonly string[], expected = 0) => {
    title(`gantry ${args.map((arg) => (/\s/.test(arg) ? "'…'" : arg)).join(' ')}`)
    const code = await inherit([GANTRY, ...args], { env })
    if (code !== expected) throw new Error(`gantry ${args[0]} ended with ${code}`)
  }
  const since = Date.now()

  await step(['pull', ...(wanted ? [] : ['--plain-http']), image])
  await step(['images'])
  await step([
    'run',
    '--rm',
    '--name',
    'look',
    '--hostname',
    'harbour',
    '--memory',
    '64m',
    '--env',
    'CARGO=bananas',
    image,
    'sh',
    '-c',
    LOOK_AROUND,
  ])
  await step(['run', '-d', '--name', 'crane', image, 'sh', '-c', 'trap "exit 0" TERM; while :; do sleep 1; done'])
  await step(['ps'])
  await step(['exec', 'crane', 'sh', '-c', 'echo "inside crane: $(ps | wc -l) processes"; exit 7'], 7)
  await step(['stop', 'crane'])
  await step(['rm', 'crane'])

  await step(['events', '--no-follow', '--since', new Date(since).toISOString()])

  title('gantry up is told to stop')
}

function title(text: string): void {
  console.log(`\n\u001b[1m${text}\u001b[0m`)
}
