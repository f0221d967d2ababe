/** Writes what a vitest run came to as JSON to the file that GANTRY_COUNTS names. */
import { writeFileSync } from 'node:fs'
import type { Reporter, SerializedError, TestModule } from 'vitest/node'

export interface Counts {
  passed: number
  failed: number
  /** the skipped tests with their reasons */
  skipped: string[]
}

export default class CountingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const counts: Counts = { passed: 0, failed: unhandled.length, skipped: [] }
    for (const module of modules) {
      if (module.errors().length > 0) counts.failed++ // the file itself could not be run
      for (const test of module.children.allTests()) {
        const result = test.result()
        if (result.state === 'passed') counts.passed++
        else if (result.state === 'failed') counts.failed++
        else counts.skipped.push(`${test.fullName}: ${('note' in result && result.note) || 'no reason given'}`)
      }
      for (const suite of module.children.allSuites()) if (suite.errors().length > 0) counts.failed++ // a hook of it failed
    }
    writeFileSync(process.env.GANTRY_COUNTS ?? 'counts.json', JSON.stringify(counts))
  }
}
