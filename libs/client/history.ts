import { parseDocument } from '@gantry/model/document'
import { MAX_CONFIG_BYTES, parseManifest } from '@gantry/model/manifest'
import { readDocument } from './content.ts'
import type { ResolvedImage } from './images.ts'
import type { Wire } from './wire.ts'

const LIMITS = { bytes: MAX_CONFIG_BYTES, entries: 4096, what: 'image config' }

/** One step that made an image. */
export interface HistoryStep {
  readonly created: Date | undefined
  readonly createdBy: string
  readonly comment: string
  /** The layer that it made, and what that weighs as it is stored, in bytes; neither when it only changed the config. */
  readonly layer: string | undefined
  readonly size: bigint
}

/** How an image came to be, by its own word; the latest step first. A step for each layer of which nothing is said. */
export async function readHistory(wire: Wire, image: ResolvedImage, signal: AbortSignal): Promise<HistoryStep[]> {
  const manifest = parseManifest(await readDocument(wire, image.manifest, signal))
  const config = parseDocument(await readDocument(wire, manifest.config, signal), LIMITS)
  const layers = [...manifest.layers]
  const steps = (config.objects('history') ?? []).map((step): HistoryStep => {
    const layer = step.flag('empty_layer') ? undefined : layers.shift()
    const created = new Date(step.text('created') ?? Number.NaN)
    return {
      created: Number.isNaN(created.getTime()) ? undefined : created,
      createdBy: step.text('created_by') ?? '',
      comment: step.text('comment') ?? '',
      layer: layer?.digest,
      size: layer?.size ?? 0n,
    }
  })
  const silent = layers.map(({ digest, size }) => ({
    ...{ created: undefined, createdBy: '', comment: '', layer: digest, size },
  }))
  return [...steps, ...silent].toReversed()
}
