/** Writes what each file of a vitest run came to, as JSON, to the file that GANTRY_COUNTS names. */
import { writeFileSync } from 'node:fs'
import type { Reporter, SerializedError, TestModule } from 'vitest/node'

export interface Counts {
  readonly passed: number
  /** what failed: the names of tests, of suites whose hooks failed, of files that could not be run */
  readonly failed: readonly string[]
  /** the skipped tests with their reasons */
  readonly skipped: readonly string[]
}

/** By file; what belongs to no file is under the empty name. */
export type CountsByFile = Readonly<Record<string, Counts>>

export default class CountingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const counts: Record<string, Counts> = {}
    if (unhandled.length > 0) counts[''] = { passed: 0, failed: unhandled.map(({ message }) => message), skipped: [] }
    for (const module of modules) counts[module.moduleId] = countsOf(module)
    writeFileSync(process.env.GANTRY_COUNTS ?? 'counts.json', JSON.stringify(counts))
  }
}

function countsOf(module: TestModule): Counts {
  let passed = 0
  const failed: string[] = []
  const skipped: string[] = []
  const file = module.relativeModuleId
  if (module.errors().length > 0) failed.push(`${file}: the file itself`)
  for (const suite of module.children.allSuites())
    if (suite.errors().length > 0) failed.push(`${file}: ${suite.fullName}`)
  for (const test of module.children.allTests()) {
    const result = test.result()
    if (result.state === 'passed') passed++
    else if (result.state === 'failed') failed.push(`${file}: ${test.fullName}`)
    else skipped.push(`${test.fullName}: ${('note' in result && result.note) || 'no reason given'}`)
  }
  return { passed, failed, skipped }
}
