/**
 * Runs everything that judges Gantry, one step after the other, all of them even when one fails.
 * Its last line is `N passed, N failed, N skipped`: every test counts, and every step that is not a test run counts as one.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import type { Counts } from './counting-reporter.ts'

const TOP = join(import.meta.dirname, '..')
const REPORTER = join(import.meta.dirname, 'counting-reporter.ts')

interface Step {
  readonly name: string
  readonly command: readonly string[]
  readonly folder?: string
  /** the command is vitest, whose tests are counted one by one */
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

async function main(only: string | undefined, files: readonly string[]): Promise<void> {
  const e2e: Step = { name: 'end-to-end tests', command: ['vitest', 'run', ...files], folder: 'e2e', tests: true }
  const steps = [...(only === 'e2e' ? [] : UNITS), ...(only === 'units' ? [] : [e2e])]
  const total: Counts = { passed: 0, failed: 0, skipped: [] }
  for (const step of steps) {
    const start = Date.now()
    console.log(`\n=== ${step.name}`)
    const counts = await run(step)
    console.log(
      `=== ${step.name}: ${counts.failed > 0 ? 'FAILED' : 'passed'} after ${((Date.now() - start) / 1000).toFixed(1)} s`,
    )
    total.passed += counts.passed
    total.failed += counts.failed
    total.skipped.push(...counts.skipped)
  }
  if (total.skipped.length > 0) console.log(`\nSkipped:\n${total.skipped.map((line) => `  ${line}`).join('\n')}`)
  console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped.length} skipped`)
  process.exitCode = total.failed > 0 ? 1 : 0
}

async function run({ command, folder = '.', tests = false }: Step): Promise<Counts> {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-test-'))
  try {
    const report = join(dir, 'counts.json')
    const reporters = tests ? ['--reporter=default', `--reporter=${REPORTER}`] : []
    const code = await spawned([...command, ...reporters], join(TOP, folder), { GANTRY_COUNTS: report })
    if (!tests) return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: [] }
    const counts = JSON.parse(readFileSync(report, 'utf8')) as Counts
    return code !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts
  } catch (error) {
    console.error(String(error)) // vitest died before it could count
    return { passed: 0, failed: 1, skipped: [] }
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
