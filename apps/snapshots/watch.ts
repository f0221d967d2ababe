import { type Metrics, SECONDS } from '@gantry/model/metric'
import { traced } from '@gantry/rpc/scope'
import type { Apply } from './diff/apply.ts'
import type { Applied } from './extract/job.ts'
import type { Pool } from './extract/pool.ts'
import type { Layers } from './layers.ts'

/** Counts layers as they are unpacked, in both ways that there are, and makes each a span of its call. */
export function watchUnpacking(metrics: Metrics): { layers(layers: Layers): Layers; apply(apply: Apply): Apply } {
  const labels = ['result']
  const help = 'Layers that were unpacked, by result: done or failed.'
  const layersTotal = metrics.counter({ name: 'gantry_unpack_layers_total', help, labels })
  const bytes = metrics.counter({ name: 'gantry_unpack_bytes_total', help: 'Plain bytes of unpacked layers.' })()
  const about = { name: 'gantry_unpack_layer_seconds', help: 'Unpacking one layer, its blob on its way included.' }
  const seconds = metrics.histogram({ ...about, bounds: SECONDS })()

  async function watched(digest: string, work: () => Promise<Applied>): Promise<Applied> {
    const from = performance.now()
    try {
      const applied = await traced('unpack layer', { 'oci.digest': digest }, work)
      layersTotal('done').add()
      bytes.add(Number(applied.size))
      return applied
    } catch (error) {
      layersTotal('failed').add()
      throw error
    } finally {
      seconds.observe((performance.now() - from) / 1000)
    }
  }

  return {
    layers: (layers) => ({
      ...layers,
      layOut: (what, signal) => watched(what.blob.digest, () => layers.layOut(what, signal)),
    }),
    apply: (apply) => (what, signal) => watched(what.blob.digest, () => apply(what, signal)),
  }
}

/** Tells how busy the threads are. */
export function watchPools(metrics: Metrics, pools: Readonly<Record<string, Pool>>): void {
  const read = (name: string, help: string, of: (pool: Pool) => number): void =>
    metrics.read('gauge', { name, help, labels: ['pool'] }, () =>
      Object.entries(pools).map(([label, pool]) => ({ labels: [label], value: of(pool) })),
    )
  read('gantry_extract_threads', 'Threads that extract, sync or mount; idle ones too.', (pool) => pool.load().threads)
  read('gantry_extract_waiting_jobs', 'Jobs that wait for a thread.', (pool) => pool.load().waiting)
}
