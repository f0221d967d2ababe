import { existsSync, mkdtempDisposableSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { create } from '@bufbuild/protobuf'
import { AnySchema } from '@bufbuild/protobuf/wkt'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { describe, expect, test, vi } from 'vitest'
import { archive, file } from '../testing/archive.ts'
import { startNode, type TestNode } from '../testing/node.ts'
import type { Processor } from './processors.ts'

const call = { signal: new AbortController().signal, namespace: 'test', lease: 'keep' }
const snapshotter = 'overlayfs'
const SECRET = 'application/vnd.example.layer+secret'
const PLAIN = archive(file('a', 'open'))
const swapCase = (bytes: Buffer) => Buffer.from(bytes.toString('latin1').replace(/[a-z]/gi, swap), 'latin1')
const swap = (letter: string) => (letter < 'a' ? letter.toLowerCase() : letter.toUpperCase())

/** A program of the shell that turns `SECRET` layers into gzip ones. */
function shell(script: string, more: Partial<Processor> = {}): Processor {
  const what = { accepts: [SECRET], returns: MEDIA.ociLayerGzip, env: ['KEY=from the operator', 'LC_ALL=C'] }
  return { id: 'opener', path: 'sh', args: ['-c', script], ...what, ...more }
}

describe.skipIf(process.getuid?.() !== 0)('stream processors (skipped without root: it extracts)', () => {
  test('a program turns a layer into one that is understood, and what it makes is hashed', async () => {
    await using node = await startNode(undefined, [shell(`tr 'a-zA-Z' 'A-Za-z' | gzip`)])

    const { applied } = await apply(node, swapCase(PLAIN))

    expect(applied).toMatchObject({ mediaType: MEDIA.ociLayer, digest: sha256Of(PLAIN), size: BigInt(PLAIN.length) })
    expect(readFileSync(join(node.root, '1', 'fs', 'a'), 'utf8')).toBe('open')
    expect(readdirSync(join(node.root, '..', 'processed'))).toEqual([])
  })

  test('it hears what it is to process, has its own environment, and the payload that was sent for it', async () => {
    const script = 'cat > /dev/null; (echo "$STREAM_PROCESSOR_MEDIATYPE $KEY $HOME"; cat <&3) >&2; exit 3'
    await using node = await startNode(undefined, [shell(script)])
    const payload = create(AnySchema, { typeUrl: 'key', value: Buffer.from('opens it') })

    const failure = apply(node, PLAIN, { opener: payload, another: payload })

    await expect(failure).rejects.toThrow(
      `opener exits with 3: ${SECRET} from the operator \n\n\u0003key\u0012\bopens it`,
    )
  })

  test('several run in turn, before what is built in', async () => {
    const first = shell('cat', { returns: MEDIA.ociLayerGzip })
    const second = shell('gunzip | gzip', { id: 'again', accepts: [MEDIA.ociLayerGzip], returns: MEDIA.ociLayer })
    const third = shell('gunzip', { id: 'last', accepts: [MEDIA.ociLayer], returns: MEDIA.dockerLayer })
    await using node = await startNode(undefined, [first, second, third])

    const { applied } = await apply(node, gzipSync(PLAIN))

    expect(applied).toMatchObject({ digest: sha256Of(PLAIN) })
  })

  test('a pulled image is unpacked through them as well', async () => {
    await using node = await startNode(undefined, [shell(`tr 'a-zA-Z' 'A-Za-z' | gzip`)])
    const layers = [
      { blob: { digest: node.addBlob(swapCase(PLAIN)), mediaType: SECRET, size: 1n }, diffId: sha256Of(PLAIN) },
    ]

    for await (const _ of node.unpack.unpack({ snapshotter, layers }, call));

    const { info } = await node.snapshots.stat({ snapshotter, key: sha256Of(PLAIN) }, call)
    expect(info).toMatchObject({ name: sha256Of(PLAIN) })
  })

  test.each([
    ['a program that is not there', shell('', { path: '/nowhere' }), 'opener cannot be run: spawn /nowhere ENOENT'],
    ['one that fails', shell('echo no key >&2; exit 1'), 'opener exits with 1: no key'],
    ['one that dies', shell('kill -9 $$'), 'opener was ended by SIGKILL'],
    ['one that never stops writing', shell('cat /dev/zero'), 'it becomes more than 10000000 bytes'],
    ['one that returns what it takes', shell('cat', { returns: SECRET }), 'over 8 programs want it in turn'],
    ['one that returns what nobody knows', shell('cat', { returns: 'text/plain' }), 'no processor for media type'],
  ])('%s fails the call, with its reason', async (_, program, reason) => {
    await using node = await startNode(undefined, [program])

    await expect(apply(node, PLAIN)).rejects.toThrow(reason)
    expect(readdirSync(join(node.root, '..', 'processed'))).toEqual([])
  })

  test('a caller who gives up ends the program, and what it has started', async () => {
    const stop = new AbortController()
    using folder = mkdtempDisposableSync(join(tmpdir(), 'gantry-processor-'))
    const pidFile = join(folder.path, 'pid')
    await using node = await startNode(undefined, [shell(`sleep 1000 & echo $! > ${pidFile}; wait`)])

    const applied = apply(node, PLAIN, {}, stop.signal)
    applied.catch(() => {})
    await vi.waitFor(() => expect(readFileSync(pidFile, 'utf8')).toMatch(/\n/), 10_000)
    stop.abort()

    await expect(applied).rejects.toMatchObject({ code: 'cancelled' })
    await vi.waitFor(() => expect(isAlive(readFileSync(pidFile, 'utf8').trim())).toBe(false), 10_000)
  })
})

async function apply(
  node: TestNode,
  bytes: Buffer,
  payloads: Record<string, ReturnType<typeof create<typeof AnySchema>>> = {},
  signal = call.signal,
) {
  const { mounts } = await node.snapshots.prepare({ snapshotter, key: 'box' }, call)
  const diff = { mediaType: SECRET, digest: node.addBlob(bytes) }
  return await node.diff.apply({ diff, mounts, payloads }, { ...call, signal })
}

function isAlive(pid: string): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
}
