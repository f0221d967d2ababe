import { VERSION } from '@gantry/service/version'
import { Command, Help } from 'commander'
import type { Context } from './context.ts'
import { addGlobals } from './globals.ts'

interface Entry {
  readonly summary: string
  load(): Promise<{ createCommand(context: Context): Command }>
}

/** Only the chosen command is imported: the others cost a line of help. */
const COMMANDS: Readonly<Record<string, Entry>> = {
  up: { summary: 'run a node in the foreground', load: () => import('./commands/up.ts') },
  pull: { summary: 'fetch an image and unpack it', load: () => import('./commands/pull.ts') },
  login: { summary: 'keep credentials for a registry', load: () => import('./commands/login.ts') },
  logout: { summary: 'forget credentials for a registry', load: () => import('./commands/logout.ts') },
  registry: { summary: 'show how registries are reached', load: () => import('./commands/registry.ts') },
  images: { summary: 'list images', load: () => import('./commands/images.ts') },
  content: { summary: 'list and verify blobs', load: () => import('./commands/content.ts') },
  push: { summary: 'bring an image to a registry', load: () => import('./commands/push.ts') },
  tag: { summary: 'give an image a further name', load: () => import('./commands/tag.ts') },
  history: { summary: 'show the steps that made an image', load: () => import('./commands/history.ts') },
  commit: { summary: 'make an image of what a container wrote', load: () => import('./commands/commit.ts') },
  image: { summary: 'remove images that nobody uses (prune)', load: () => import('./commands/image.ts') },
  save: { summary: 'write images into an archive', load: () => import('./commands/save.ts') },
  load: { summary: 'store the images of an archive', load: () => import('./commands/load.ts') },
  export: { summary: 'write images into an archive, all choices', load: () => import('./commands/export.ts') },
  import: { summary: 'store the images of an archive, all choices', load: () => import('./commands/import.ts') },
  rmi: { summary: 'remove images', load: () => import('./commands/rmi.ts') },
  run: { summary: 'run a container', load: () => import('./commands/run.ts') },
  create: { summary: 'make a container, to be started later', load: () => import('./commands/create.ts') },
  start: { summary: 'run containers that were made, or have ended', load: () => import('./commands/start.ts') },
  update: {
    summary: 'change limits of containers, or their restart policy',
    load: () => import('./commands/update.ts'),
  },
  attach: { summary: 'join the input and output of a container', load: () => import('./commands/attach.ts') },
  exec: { summary: 'run a further process in a container', load: () => import('./commands/exec.ts') },
  cp: { summary: 'copy files into a container, or out of it', load: () => import('./commands/cp.ts') },
  logs: { summary: 'show what a detached container wrote', load: () => import('./commands/logs.ts') },
  ps: { summary: 'list containers', load: () => import('./commands/ps.ts') },
  stop: { summary: 'end containers, gently first', load: () => import('./commands/stop.ts') },
  restart: { summary: 'end containers and start them again', load: () => import('./commands/restart.ts') },
  kill: { summary: 'send a signal to containers', load: () => import('./commands/kill.ts') },
  pause: { summary: 'freeze containers', load: () => import('./commands/pause.ts') },
  unpause: { summary: 'let frozen containers go on', load: () => import('./commands/unpause.ts') },
  wait: { summary: 'wait until containers have ended', load: () => import('./commands/wait.ts') },
  inspect: { summary: 'print all that is known of a container or image', load: () => import('./commands/inspect.ts') },
  diff: { summary: 'list what a container has changed', load: () => import('./commands/diff.ts') },
  port: { summary: 'list the published ports of a container', load: () => import('./commands/port.ts') },
  top: { summary: 'list the processes of a container', load: () => import('./commands/top.ts') },
  stats: { summary: 'show what running containers use', load: () => import('./commands/stats.ts') },
  rm: { summary: 'remove containers', load: () => import('./commands/rm.ts') },
  container: { summary: 'remove containers that have ended (prune)', load: () => import('./commands/container.ts') },
  sandbox: { summary: 'run, list and remove groups of containers', load: () => import('./commands/sandbox.ts') },
  events: { summary: 'print what happens and what happened', load: () => import('./commands/events.ts') },
  audit: { summary: 'print who changed what', load: () => import('./commands/audit.ts') },
  namespaces: { summary: 'list, create and remove namespaces', load: () => import('./commands/namespaces.ts') },
  gc: { summary: 'remove what nothing refers to', load: () => import('./commands/gc.ts') },
  system: {
    summary: 'remove containers and images that nobody uses (prune)',
    load: () => import('./commands/system.ts'),
  },
  why: { summary: 'show what keeps a blob, snapshot or image', load: () => import('./commands/why.ts') },
  repair: { summary: 'remove what no record knows', load: () => import('./commands/repair.ts') },
  df: { summary: 'show what takes room on disk', load: () => import('./commands/df.ts') },
  status: { summary: 'show how the processes of a node are', load: () => import('./commands/status.ts') },
  version: { summary: 'show versions of client and server', load: () => import('./commands/version.ts') },
}

/** Options of ours that take a value. */
const WITH_VALUE = new Set(['--address', '--namespace', '--tls-ca', '--tls-cert', '--tls-key'])

const HELP = new Help()

/** The command line, with the command that `argv` names in full and the others by name only. */
export async function createProgram(argv: readonly string[], context: Context): Promise<Command> {
  const program = addGlobals(new Command('gantry'))
    .description('Runs containers from images.')
    .version(VERSION, '-v, --version')
    .enablePositionalOptions()
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({
      optionDescription: (option) =>
        isEmptyList(option.defaultValue) ? option.description : HELP.optionDescription(option),
    })
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'gantry: ')),
    })
  const chosen = chosenIn(argv)
  const entry = chosen !== undefined && Object.hasOwn(COMMANDS, chosen) ? COMMANDS[chosen] : undefined
  if (entry) program.addCommand(inherit((await entry.load()).createCommand(context), program).summary(entry.summary))
  if (entry && !wantsAll(argv, chosen)) return program // to make the others takes longer than some commands
  for (const [name, { summary }] of Object.entries(COMMANDS))
    if (name !== chosen) program.addCommand(new Command(name).copyInheritedSettings(program).summary(summary))
  return program
}

/** Help of ours that is asked for before a command lists all. */
function wantsAll(argv: readonly string[], chosen: string | undefined): boolean {
  return argv.slice(0, argv.indexOf(chosen ?? '')).some((word) => word === '-h' || word === '--help')
}

/** The name of the command: the first word that is neither an option of ours nor its value; behind `help`, the next. */
export function chosenIn(argv: readonly string[]): string | undefined {
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]
    if (word !== undefined && WITH_VALUE.has(word)) at++
    else if (word !== undefined && word !== 'help' && !word.startsWith('-')) return word
  }
  return undefined
}

/** What a repeatable option begins with: nothing that a user should read. */
function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}

function inherit(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent)
  for (const child of command.commands) inherit(child, command)
  return addGlobals(command)
}
