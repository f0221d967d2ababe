import type { Metrics } from '@gantry/model/metric'
import type { FetchWatch } from './registry/fetch.ts'

/** Hears of pulls. */
export interface PullWatch extends FetchWatch {
  blob(result: 'fetched' | 'exists' | 'failed'): void
}

export function createPullWatch(metrics: Metrics): PullWatch {
  const help = 'Blobs that pulls asked for, by result: fetched, exists (here already), failed.'
  const blobs = metrics.counter({ name: 'gantry_pull_blobs_total', help, labels: ['result'] })
  const bytes = metrics.counter({ name: 'gantry_pull_bytes_total', help: 'Bytes that came from registries.' })()
  const about = { name: 'gantry_pull_retries_total', help: 'Downloads that broke off and were taken up again.' }
  const retries = metrics.counter(about)()
  return { blob: (result) => blobs(result).add(), received: bytes.add, retried: () => retries.add() }
}

/** Tells of uploads, whoever makes them. */
export function watchIngests(metrics: Metrics, ingests: { ids(): Iterable<unknown> }): void {
  const about = { name: 'gantry_content_ingests', help: 'Uploads and downloads that are not complete.' }
  metrics.read('gauge', about, () => [...ingests.ids()].length)
}
