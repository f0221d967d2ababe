/** For tests: real rows in a folder of their own, with the events of every write kept in a list instead of published. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { TimestampSchema } from '@bufbuild/protobuf/wkt'
import { toTimestamp } from '@gantry/model/clock'
import type { Changes } from '@gantry/service/changes'
import { openStore } from '@gantry/store/store'
import { type Rows, rowsOf } from './rows.ts'

export interface Emitted {
  readonly namespace: string
  readonly topic: string
  readonly event: object
}

export interface TestStore extends AsyncDisposable {
  readonly rows: Rows
  readonly changes: Changes
  /** Events of the writes that were committed, in order. */
  readonly events: Emitted[]
  /** A clock that moves one second at each look, from 1000 s after 1970 on. */
  readonly now: () => ReturnType<typeof timestamp>
  readonly deleted: () => void
}

export function openTestStore(): TestStore {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-metadata-'))
  const store = openStore(join(folder, 'records'))
  const events: Emitted[] = []
  let seconds = 1000
  return {
    rows: rowsOf(store),
    events,
    now: () => timestamp(seconds++),
    deleted: () => undefined,
    changes: {
      async write(fn) {
        const emitted: Emitted[] = []
        const result = await store.write(() =>
          fn((namespace, topic, _schema, event) => void emitted.push({ namespace, topic, event })),
        )
        events.push(...emitted)
        return result
      },
      async [Symbol.asyncDispose]() {},
    },
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true })
    },
  }
}

export function timestamp(seconds: number) {
  return create(TimestampSchema, toTimestamp(seconds * 1000))
}
