/**
 * Runs everything that judges Gantry, one step after the other, all of them even when one fails.
 * Its last line is `N passed, N failed, N skipped`: every test counts, and every step that is not a test run counts as one.
 *
 * When one or two files of tests fail they run once more. What passes then is no proof that all is well: it is listed as
 * unsteady, above the last line, and is a defect to mend; but it does not stop others from landing their work.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import type { Counts, CountsByFile } from './counting-reporter.ts'

const TOP = join(import.meta.dirname, '..')
const REPORTER = join(import.meta.dirname, 'counting-reporter.ts')
const MOST_AGAIN = 2 // files that run once more; when more fail, it is no matter of chance

interface Step {
  readonly name: string
  readonly command: readonly string[]
  readonly folder?: string
  /** the files of tests, or words of their names; all when there are none */
  readonly files?: readonly string[]
  /** the command is vitest: its tests are counted one by one */
  readonly tests?: boolean
}

const UNITS: readonly Step[] = [
  { name: 'lock file complete for all platforms', command: ['node', 'tools/lock-platforms.mjs', '--check'] },
  { name: 'borders between packages', command: ['node', 'tools/borders.ts'] },
  { name: 'format and lint', command: ['biome', 'check', '--error-on-warnings', '.'] },
  {
    name: 'lint and types of every package',
    command: ['nx', 'run-many', '-t', 'lint', 'typecheck', '--outputStyle=static'],
  },
  { name: 'types of e2e', command: ['tsc', '-p', 'e2e'] },
  { name: 'types of tools', command: ['tsc', '-p', 'tools'] },
  { name: 'nothing unused', command: ['knip'] },
  { name: 'unit tests', command: ['vitest', 'run', '--config', 'tools/vitest.config.ts', '--root', '.'], tests: true },
]

interface Outcome extends Counts {
  /** what failed at first and passed when it ran again */
  readonly unsteady: readonly string[]
}

async function main(only: string | undefined, files: readonly string[]): Promise<void> {
  const e2e: Step = { name: 'end-to-end tests', command: ['vitest', 'run'], folder: 'e2e', files, tests: true }
  const steps = [...(only === 'e2e' ? [] : UNITS), ...(only === 'units' ? [] : [e2e])]
  const outcomes: Outcome[] = []
  for (const step of steps) {
    const start = Date.now()
    console.log(`\n=== ${step.name}`)
    const outcome = step.tests ? await runTests(step) : await runCheck(step)
    console.log(
      `=== ${step.name}: ${outcome.failed.length > 0 ? 'FAILED' : 'passed'} after ${((Date.now() - start) / 1000).toFixed(1)} s`,
    )
    outcomes.push(outcome)
  }
  const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0)
  const failed = outcomes.flatMap((outcome) => outcome.failed)
  const skipped = outcomes.flatMap((outcome) => outcome.skipped)
  list('Skipped', skipped)
  list(
    'Unsteady: failed, and passed when run again',
    outcomes.flatMap((outcome) => outcome.unsteady),
  )
  list('Failed', failed)
  console.log(`\n${passed} passed, ${failed.length} failed, ${skipped.length} skipped`)
  process.exitCode = failed.length > 0 ? 1 : 0
}

function list(title: string, lines: readonly string[]): void {
  if (lines.length > 0) console.log(`\n${title}:\n${lines.map((line) => `  ${line}`).join('\n')}`)
}

async function runCheck({ name, command, folder = '.' }: Step): Promise<Outcome> {
  const code = await spawned(command, join(TOP, folder), {})
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? [] : [name], skipped: [], unsteady: [] }
}

async function runTests(step: Step): Promise<Outcome> {
  const first = await count(step)
  const again = Object.keys(first).filter((file) => first[file]?.failed.length)
  if (again.length === 0 || again.length > MOST_AGAIN || again.includes('')) return { ...sum(first), unsteady: [] }
  console.log(`\n=== ${step.name}: once more, what failed`)
  const second = await count({ ...step, files: again })
  const unsteady = again.flatMap((file) => first[file]?.failed.filter((name) => !failedIn(second[file], name)) ?? [])
  return { ...sum({ ...first, ...second }), unsteady }
}

/** What did not run again is no better than before. */
function failedIn(counts: Counts | undefined, name: string): boolean {
  return counts === undefined || counts.failed.includes(name)
}

function sum(counts: CountsByFile): Counts {
  const all = Object.values(counts)
  return {
    passed: all.reduce((total, { passed }) => total + passed, 0),
    failed: all.flatMap(({ failed }) => failed),
    skipped: all.flatMap(({ skipped }) => skipped),
  }
}

async function count({ name, command, folder = '.', files = [] }: Step): Promise<CountsByFile> {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-test-'))
  try {
    const report = join(dir, 'counts.json')
    const reporters = ['--reporter=default', `--reporter=${REPORTER}`]
    const code = await spawned([...command, ...files, ...reporters], join(TOP, folder), { GANTRY_COUNTS: report })
    const counts = JSON.parse(readFileSync(report, 'utf8')) as CountsByFile
    if (code === 0 || sum(counts).failed.length > 0) return counts
    return { ...counts, '': { passed: 0, failed: [`${name}: exit code ${code}`], skipped: [] } }
  } catch (error) {
    console.error(String(error)) // vitest died before it could count
    return { '': { passed: 0, failed: [`${name}: ${error}`], skipped: [] } }
  } finally {
    rmSync(dir, { recursive: true })
  }
}

function spawned(command: readonly string[], cwd: string, env: Readonly<Record<string, string>>): Promise<number> {
  const [program = '', ...args] = command
  const path = [join(TOP, 'node_modules', '.bin'), process.env.PATH].join(delimiter)
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, NX_DAEMON: 'false', ...env, PATH: path }, // a daemon would outlive the tests
    })
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

await main(process.argv[2], process.argv.slice(3))
