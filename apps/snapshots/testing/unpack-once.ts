/** A process to be killed: unpacks the layers that lie as archives, in the order of their names, in a folder. Every second one arrives slowly. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { startNode } from './node.ts'

const PIECE = 50_000 // bytes
const PAUSE_MS = 5

const [base = '', archives = ''] = process.argv.slice(2)
await using node = await startNode(base)
const layers = readdirSync(archives)
  .sort()
  .map((name) => readFileSync(join(archives, name)))
  .map((bytes, index) => ({
    blob: {
      digest: index % 2 === 0 ? node.addBlob(bytes) : arriving(bytes),
      mediaType: MEDIA.ociLayer,
      size: BigInt(bytes.length),
    },
    diffId: sha256Of(bytes),
  }))
process.stdout.write('ready\n')
const call = { signal: AbortSignal.timeout(60_000), namespace: 'test', lease: 'keep' }
for await (const _ of node.unpack.unpack({ snapshotter: 'overlayfs', layers }, call)) process.stdout.write('step\n')

function arriving(bytes: Buffer): string {
  const blob = node.growBlob(bytes)
  let size = 0
  const timer = setInterval(() => {
    size = Math.min(size + PIECE, bytes.length)
    blob.grow(bytes.subarray(0, size))
    if (size < bytes.length) return
    clearInterval(timer)
    blob.finish()
  }, PAUSE_MS)
  return blob.digest
}
