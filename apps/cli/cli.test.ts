import { Fault } from '@gantry/model/fault'
import { Command, CommanderError } from 'commander'
import { expect, test } from 'vitest'
import { parseSide } from './commands/cp.ts'
import { within } from './commands/events.ts'
import { statusOf } from './commands/ps.ts'
import { addGlobals, globalsOf } from './globals.ts'
import { chosenIn, createProgram } from './program.ts'
import { Exit, report, reportOutput } from './report.ts'
import { parseSignal } from './signal.ts'
import { parseSince } from './since.ts'

const NO_TLS = { ca: '', cert: '', key: '' }

test.each([
  [['run', 'busybox', 'ps'], 'run'],
  [['--address', 'pull', '--json', 'ps'], 'ps'],
  [['--tls-ca', 'run', '--tls-cert=kill', 'ps'], 'ps'],
  [['--namespace=x', 'help', 'exec'], 'exec'],
  [['--help'], undefined],
])('%j chooses %s', (argv, name) => {
  expect(chosenIn(argv)).toBe(name)
})

test('an option behind the command counts more than before it, that more than the environment', () => {
  const program = addGlobals(new Command('gantry')).enablePositionalOptions()
  const ps = addGlobals(program.command('ps')).action(() => undefined)
  program.parse(['--address', '/a', '--namespace', 'one', 'ps', '--namespace', 'two'], { from: 'user' })

  const env = { GANTRY_ADDRESS: '/env', GANTRY_NAMESPACE: 'env' }
  expect(globalsOf(ps, { env })).toEqual({ address: '/a', namespace: 'two', tls: NO_TLS, json: false })
  expect(globalsOf(new Command(), { env })).toEqual({ address: '/env', namespace: 'env', tls: NO_TLS, json: false })
  expect(globalsOf(new Command(), { env: { GANTRY_ADDRESS: '' } })).toEqual({
    ...{ address: '/run/gantry/gantry.sock', namespace: 'default', tls: NO_TLS, json: false },
  })
})

test.each([
  ['pul', 'Did you mean pull?'],
  ['constructor', "unknown command 'constructor'"],
])('%s does not exist: it is refused with the nearest', async (name, expected) => {
  const said: string[] = []
  const program = await createProgram([name], process)
  program.configureOutput({ writeErr: (part) => said.push(part), outputError: (part) => said.push(part) })

  await expect(program.parseAsync([name], { from: 'user' })).rejects.toThrow(CommanderError)
  expect(said.join('')).toContain(expected)
})

test.each([
  [new Fault('not-found', 'Cannot find it: gone\n\u001b[2J'), 1, 'gantry: cannot find it: gone\\x0a\\x1b[2J\n'],
  [new Exit(127, new Fault('unknown', 'OCI runtime failed')), 127, 'gantry: OCI runtime failed\n'],
  [new Fault('cancelled', 'cancelled on client'), 130, 'gantry: interrupted\n'],
  [new CommanderError(1, 'commander.unknownOption', 'told already'), 2, ''],
  [new CommanderError(0, 'commander.help', 'help'), 0, ''],
])('%s is reported', (error, code, expected) => {
  const said: string[] = []
  const stderr = { write: (part: string) => said.push(part) }

  expect([report(error, { stderr, env: {} }), said.join('')]).toEqual([code, expected])
})

test('a mistake in the options of run is told from what a container ends with', () => {
  const mistake = new CommanderError(1, 'commander.unknownOption', 'told already')

  expect([report(mistake, process, 'run'), report(mistake, process, 'ps')]).toEqual([125, 2])
})

test.each([
  ['EPIPE', undefined, 141, ''],
  ['EPIPE', 3, 3, ''],
  ['ENOSPC', undefined, 1, 'gantry: cannot write the output: ENOSPC\n'],
  ['ENOSPC', 3, 3, 'gantry: cannot write the output: ENOSPC\n'],
])('%s of standard output and exit code %s are %i', (code, exitCode, expected, told) => {
  const said: string[] = []
  const stderr = { write: (part: string) => said.push(part) }

  expect(reportOutput(Object.assign(new Error(code), { code }), { stderr, exitCode })).toBe(expected)
  expect(said.join('')).toBe(told)
})

test.each([
  ['TERM', 15],
  ['sigkill', 9],
  ['1', 1],
  ['RTMIN', 34],
  ['SIGRTMIN+3', 37],
  ['RTMAX-1', 63],
])('%s is signal %i', (text, number) => {
  expect(parseSignal(text)).toBe(number)
})

test.each(['', '0', '65', 'FOO', 'RTMIN+31', 'RTMAX-60', '-9'])('there is no signal %j', (text) => {
  expect(() => parseSignal(text)).toThrow('there is no such signal')
})

test('events start at a sequence, at a time, or some time ago', () => {
  const now = new Date('2026-01-02T12:00:00Z')

  expect(parseSince('42', now)).toBe(42n)
  expect(parseSince('10m', now)).toEqual(new Date('2026-01-02T11:50:00Z'))
  expect(parseSince('1h30m', now)).toEqual(new Date('2026-01-02T10:30:00Z'))
  expect(parseSince('2026-01-01T00:00:00Z', now)).toEqual(new Date('2026-01-01T00:00:00Z'))
  for (const text of ['', 'soon', '10x', '2026-99-99', '-1'])
    expect(() => parseSince(text, now)).toThrow('Cannot start')
})

test.each([
  ['box:/etc', { container: 'box', path: '/etc' }],
  ['box:', { container: 'box', path: '' }],
  ['box:a:b', { container: 'box', path: 'a:b' }],
  ['/a:b', { path: '/a:b' }],
  ['./a:b', { path: './a:b' }],
  ['a/b:c', { container: 'a/b', path: 'c' }],
  [':a', { path: ':a' }],
  ['file', { path: 'file' }],
])('%s is a side of cp', (text, side) => {
  expect(parseSide(text)).toEqual(side)
})

test('what is no end of events is told as one', () => {
  expect(() => parseSince('soon', new Date(), 'end')).toThrow('Cannot end at "soon"')
})

test('each filter of events is narrowed to the namespace', () => {
  expect(within('a', [])).toEqual(['namespace=="a"'])
  expect(within('a', ['topic~=x', 'topic==y'])).toEqual(['namespace=="a",topic~=x', 'namespace=="a",topic==y'])
})

test('a container that has ended says so, also when its task is gone', () => {
  const now = new Date('2026-01-02T12:00:00Z')
  const labels = { 'gantry/exit-status': '3', 'gantry/exited-at': '2026-01-02T11:58:00.000Z' }
  const container = {
    id: 'c',
    image: '',
    runtime: '',
    snapshotter: '',
    snapshotKey: '',
    labels: {},
    sandbox: '',
    spec: undefined,
  }
  const times = { createdAt: now, updatedAt: now }
  const task = { containerId: 'c', execId: '', pid: 5, terminal: false, exitStatus: 9, exitedAt: now }

  expect(statusOf({ container: { ...container, ...times, labels }, task: undefined }, now)).toBe(
    'Exited (3) 2 minutes ago',
  )
  expect(statusOf({ container: { ...container, ...times }, task: undefined }, now)).toBe('Created')
  expect(statusOf({ container: { ...container, ...times }, task: { ...task, status: 'running' } }, now)).toBe('Up')
  expect(statusOf({ container: { ...container, ...times }, task: { ...task, status: 'stopped' } }, now)).toBe(
    'Exited (9) just now',
  )
})
