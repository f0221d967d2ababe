import { setImmediate } from 'node:timers/promises'
import { chosenIn, createProgram } from './program.ts'
import { report, reportOutput } from './report.ts'
import { runTraced } from './trace.ts'

void main(process.argv.slice(2))

async function main(argv: readonly string[]): Promise<void> {
  const name = chosenIn(argv)
  let broken: Error | undefined
  process.stdout.on('error', (error) => {
    broken ??= error // the stream itself forgets it
  })
  process.stderr.on('error', () => undefined)
  let failure: { readonly error: unknown } | undefined
  try {
    const program = await createProgram(argv, process)
    await runTraced(name, process, () => program.parseAsync(argv, { from: 'user' }))
  } catch (error) {
    failure = { error }
  }
  await setImmediate() // a write that failed is told in the next turn
  if (broken) process.exitCode = reportOutput(broken, process)
  else if (failure) process.exitCode = report(failure.error, process, name)
  process.exit() // an input that nobody reads any more would keep the process
}
