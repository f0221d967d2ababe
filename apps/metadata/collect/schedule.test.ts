import { setTimeout as sleep } from 'node:timers/promises'
import type { Party } from '@gantry/service/collection'
import { expect, test } from 'vitest'
import { startCollector } from './schedule.ts'

const THRESHOLDS = { pause: 0.02, deletions: 0, mutations: 100, delayMs: 0, startupMs: 0 }

test.each(['scan', 'resume'] as const)(
  'the end of a node is not held up by an owner that is gone before, asked to %s',
  async (lastWord) => {
    const asked = Promise.withResolvers<void>()
    const gone = goneAfter(lastWord, asked.resolve)
    const collector = startCollector({
      parties: { metadata: EMPTY, content: gone, snapshots: gone },
      thresholds: THRESHOLDS,
      log: { info: () => undefined, warn: () => undefined },
      now: Date.now,
    })
    await asked.promise

    const ended = collector[Symbol.asyncDispose]().then(() => 'ended')

    expect(await Promise.race([ended, sleep(10_000, 'held up', { ref: false })])).toBe('ended')
  },
)

const EMPTY: Party = {
  async *scan() {},
  pause: async () => [],
  sweep: async () => 0,
  resume: async () => undefined,
  async *counts() {},
}

/** Its socket is there, but nobody answers: a call waits until it is given up. */
function goneAfter(method: 'scan' | 'resume', asked: () => void): Party {
  const unanswered = (signal: AbortSignal): Promise<never> => {
    asked()
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
  }
  return {
    ...EMPTY,
    async *scan(_token, signal) {
      if (method === 'scan') yield await unanswered(signal)
    },
    resume: (_token, _more, signal) => unanswered(signal),
  }
}
