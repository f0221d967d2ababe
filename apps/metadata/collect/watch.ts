import { type Metrics, SECONDS } from '@gantry/model/metric'
import type { Collected } from './collect.ts'

/** Hears of collections. */
export interface CollectionWatch {
  done(collected: Pick<Collected, 'removed' | 'tookMs' | 'pausedMs'>): void
  failed(): void
}

export function createCollectionWatch(metrics: Metrics): CollectionWatch {
  const help = 'Collections, by result: done or failed.'
  const runs = metrics.counter({ name: 'gantry_collections_total', help, labels: ['result'] })
  const took = { name: 'gantry_collection_seconds', help: 'A whole collection, until everybody could go on.' }
  const seconds = metrics.histogram({ ...took, bounds: SECONDS })()
  const paused = { name: 'gantry_collection_pause_seconds', help: 'The longest wait of writers in a collection.' }
  const pauses = metrics.histogram({ ...paused, bounds: SECONDS })()
  const removed = metrics.counter({ name: 'gantry_collection_removed_total', help: 'Things that were collected.' })()
  return {
    done(collected) {
      runs('done').add()
      seconds.observe(collected.tookMs / 1000)
      pauses.observe(collected.pausedMs / 1000)
      removed.add(collected.removed)
    },
    failed: () => runs('failed').add(),
  }
}
