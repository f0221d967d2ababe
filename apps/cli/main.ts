import { chosenIn, createProgram } from './program.ts'
import { report } from './report.ts'
import { runTraced } from './trace.ts'

// a reader that has seen enough, such as `head`, is no error
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)

void main(process.argv.slice(2))

async function main(argv: readonly string[]): Promise<void> {
  try {
    const program = await createProgram(argv, process)
    await runTraced(chosenIn(argv), process, () => program.parseAsync(argv, { from: 'user' }))
  } catch (error) {
    process.exitCode = report(error, process)
  }
  process.exit() // an input that nobody reads any more would keep the process
}
