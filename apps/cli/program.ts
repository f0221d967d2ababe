import { Command } from 'commander'
import type { Context } from './context.ts'
import { addGlobals } from './globals.ts'
import { VERSION } from './version.ts'

interface Entry {
  readonly summary: string
  load(): Promise<{ createCommand(context: Context): Command }>
}

/** Only the chosen command is imported: the others cost a line of help. */
const COMMANDS: Readonly<Record<string, Entry>> = {
  up: { summary: 'run a node in the foreground', load: () => import('./commands/up.ts') },
}

/** The command line, with the command that `argv` names in full and the others by name only. */
export async function createProgram(argv: readonly string[], context: Context): Promise<Command> {
  const program = addGlobals(new Command('gantry'))
    .description('Runs containers from images.')
    .version(VERSION, '-v, --version')
    .enablePositionalOptions()
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'gantry: ')),
    })
  const chosen = chosenIn(argv)
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    const command = name === chosen ? (await load()).createCommand(context) : new Command(name)
    program.addCommand(inherit(command.summary(summary), program))
  }
  return program
}

/** The name of the command: the first word that is neither an option of ours nor its value; behind `help`, the next. */
export function chosenIn(argv: readonly string[]): string | undefined {
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]
    if (word === '--address' || word === '--namespace') at++
    else if (word !== undefined && word !== 'help' && !word.startsWith('-')) return word
  }
  return undefined
}

function inherit(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent)
  for (const child of command.commands) inherit(child, command)
  return addGlobals(command)
}
