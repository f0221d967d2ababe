/** A process to be killed: unpacks the layers that lie as archives, in the order of their names, in a folder. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { startNode } from './node.ts'

const [base = '', archives = ''] = process.argv.slice(2)
await using node = await startNode(base)
const layers = readdirSync(archives)
  .sort()
  .map((name) => readFileSync(join(archives, name)))
  .map((bytes) => ({
    blob: { digest: node.addBlob(bytes), mediaType: MEDIA.ociLayer, size: BigInt(bytes.length) },
    diffId: sha256Of(bytes),
  }))
process.stdout.write('ready\n')
const call = { signal: AbortSignal.timeout(60_000), namespace: 'test', lease: 'keep' }
for await (const _ of node.unpack.unpack({ snapshotter: 'overlayfs', layers }, call)) process.stdout.write('step\n')
