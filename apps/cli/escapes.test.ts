import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import type { DescService } from '@bufbuild/protobuf'
import { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { Fault } from '@gantry/model/fault'
import { listen } from '@gantry/rpc/server'
import { bind, type Implementation } from '@gantry/rpc/service'
import { expect, test } from 'vitest'
import type { Context } from './context.ts'
import { createProgram } from './program.ts'
import { report } from './report.ts'

const EVIL = 'a\u001b[2J\u007f\u009b2Jb' // clears a screen, by both kinds of control characters
const args = ['sh', EVIL]
const spec = { value: Buffer.from(JSON.stringify({ process: { args, user: {}, env: [`X=${EVIL}`] } })) }
const container = { id: 'box', image: EVIL, labels: { [EVIL]: EVIL }, spec }
const target = { mediaType: EVIL, digest: `sha256:${'0'.repeat(64)}`, size: 1n }

/** A service of which only some methods are there. */
function some<S extends DescService>(service: S, methods: Partial<Implementation<S>>) {
  const missing = () => Promise.reject(new Fault('unimplemented', EVIL))
  const rest = Object.fromEntries(service.methods.map(({ localName }) => [localName, missing]))
  return bind(service, { ...rest, ...methods } as Implementation<S>)
}

/** What a command writes. */
async function said(argv: readonly string[], address: string): Promise<string> {
  const out = new PassThrough()
  const context = { env: {}, stdin: process.stdin, stdout: out, stderr: out } as unknown as Context
  const whole = ['--address', address, ...argv]
  await createProgram(whole, context)
    .then((program) => program.parseAsync(whole, { from: 'user' }))
    .catch((error) => report(error, { ...context, env: { GANTRY_DEBUG: '1' } }))
  return String(out.read() ?? '')
}

test.each([
  [['ps', '-a', '--no-trunc']],
  [['ps', '-a', '--json']],
  [['inspect', 'box']],
  [['images']],
  [['images', '-q']],
  [['images', '--json']],
  [['rmi', EVIL]],
  [['top', 'box']],
])('%j obeys no name that a client or an image has given', async (argv) => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-escapes-'))
  const address = join(folder, 'gantry.sock')
  const bindings = [
    some(Containers, { list: async () => ({ containers: [container] }), get: async () => ({ container }) }),
    some(Tasks, { list: async () => ({ tasks: [] }) }),
    some(Images, { list: async () => ({ images: [{ name: EVIL, target, labels: { [EVIL]: EVIL } }] }) }),
  ]
  const server = await listen({ address, bindings, log: { error: () => undefined, debug: () => undefined } })
  try {
    const text = await said(argv, address)

    expect(text).not.toBe('')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(text).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/)
    if (argv.includes('--json')) expect(JSON.stringify(JSON.parse(text))).toContain(JSON.stringify(EVIL).slice(1, -1))
  } finally {
    process.exitCode = 0
    await server[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  }
})
