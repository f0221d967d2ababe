import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'

/** Runs the fixture and, once it is ready, sends it signals. */
async function run(argv: string[], signals: NodeJS.Signals[] = []) {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'process.fixture.ts'), ...argv])
  const text = { stdout: '', stderr: '' }
  let left = signals
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      text[name] += chunk
      const [next, ...rest] = left
      if (next === undefined || !/ready|Stopping/.test(chunk)) return
      left = rest
      child.kill(next)
    })
  const code = await new Promise((resolve) => child.on('close', (code, signal) => resolve(code ?? signal)))
  const lines = text.stdout.split('\n').filter((line) => line !== '')
  return { code, log: lines.map((line) => JSON.parse(line)), stderr: text.stderr }
}

test.each(['SIGTERM', 'SIGINT'] as const)('%s stops the process in order', async (signal) => {
  const { code, log } = await run(['run'], [signal])

  expect(code).toBe(0)
  expect(log.map(({ name, msg }) => [name, msg])).toEqual([
    ['gantry-test', 'ready'],
    ['gantry-test', 'Stopping'],
    ['gantry-test', 'bye'],
  ])
})

test('a line of the log says which call it is part of, and which trace', async () => {
  const { log } = await run(['call'])

  expect(log).toMatchObject([
    { msg: 'part of a call', request: 'r7', trace: '0af7651916cd43dd8448eb211c80319c' },
    { msg: 'part of none' },
  ])
  expect(log[1]).not.toHaveProperty('request')
})

test('a second signal ends a process that does not stop', async () => {
  expect((await run(['hang'], ['SIGTERM', 'SIGTERM'])).code).toBe(1)
})

test('a fault that nobody catches is one line without a stack', async () => {
  expect(await run(['fault'])).toEqual({ code: 1, log: [], stderr: 'gantry-test: Cannot do it: it is broken\n' })
})

test('a bug that nobody catches is logged with its stack', async () => {
  const { code, log } = await run(['bug'])

  expect(code).toBe(1)
  expect(log).toMatchObject([
    { level: 60, err: { message: 'a bug', stack: expect.stringContaining('process.fixture') } },
  ])
})

test.each([
  [['run', '--stat', '/x'], "gantry-test: Cannot read the command line: Unknown option '--stat'"],
  [['run', 'word'], 'gantry-test: Cannot read the command line: Unexpected argument'],
  [['run', '--log-level', 'loud'], 'gantry-test: Cannot log at level "loud"'],
])('a bad command line %j ends with one line', async (argv, message) => {
  const { code, stderr } = await run(argv)

  expect(code).toBe(1)
  expect(stderr).toContain(message)
  expect(stderr.trim().split('\n')).toHaveLength(1)
})
