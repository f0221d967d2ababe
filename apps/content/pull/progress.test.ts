import { fromBinary } from '@bufbuild/protobuf'
import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { expect, test } from 'vitest'
import { createProgress, type Phase } from './progress.ts'

const layer = { mediaType: MEDIA.ociLayer, digest: sha256Of('layer'), size: 9n }

test.each<[readonly Phase[], Phase]>([
  [['downloading', 'extracting'], 'downloading'],
  [['downloading', 'extracting', 'complete'], 'extracting'],
  [['downloading', 'extracting', 'complete', 'extracted'], 'extracted'],
  [['extracted', 'downloading'], 'downloading'],
  [['extracted', 'downloading', 'complete'], 'extracted'],
  [['already exists', 'extracting'], 'extracting'],
])('a layer that went through %j is said to be %s', async (phases, said) => {
  const sent: string[] = []
  const send = async ({ value }: { value?: Uint8Array }) => {
    sent.push(fromBinary(ProgressSchema, value ?? new Uint8Array()).event)
  }

  {
    await using progress = createProgress(send)
    progress.add(layer, [])
    for (const phase of phases) progress.set(layer, phase)
  }

  expect(sent).toEqual([said])
})
