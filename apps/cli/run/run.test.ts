import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import { expect, test } from 'vitest'
import { parseEnvFile, resolveEnv } from './environment.ts'
import { startFailureCode } from './failure.ts'
import { addRunOptions, parseVolume, type RunOptions, specOf } from './options.ts'

const ID = '0123456789abcdef'.repeat(4)

function parse(...argv: string[]): { options: RunOptions; args: string[] } {
  const command = addRunOptions(new Command('run')).argument('<image>').argument('[command...]').passThroughOptions()
  command.exitOverride().configureOutput({ writeErr: () => undefined })
  command.parse(argv, { from: 'user' })
  return { options: command.opts<RunOptions>(), args: command.args }
}

test('the options of docker become those of a spec', () => {
  const argv =
    '--rm -it -e A=b -e HERE -e GONE --mount src=/a,dst=/b,readonly -v /c:/d:ro -u 1:2 -w /tmp --read-only -m 64m'
  const { options, args } = parse(
    ...argv.split(' '),
    ...['--network', 'host', '--privileged', '--entrypoint', 'sh'],
    'busybox',
    'ls',
    '-l',
  )

  expect(args).toEqual(['busybox', 'ls', '-l'])
  expect(specOf(options, { id: ID, args: args.slice(1) }, { HERE: 'here' })).toEqual({
    args: ['ls', '-l'],
    env: ['A=b', 'HERE=here'],
    mounts: [
      { type: 'bind', source: '/a', destination: '/b', options: ['rbind', 'ro'] },
      { type: 'bind', source: '/c', destination: '/d', options: ['rbind', 'ro'] },
    ],
    ...{ tty: true, cwd: '/tmp', readOnly: true, memory: 64n * 1024n ** 2n, user: '1:2', privileged: true },
    ...{ entrypoint: ['sh'], netHost: true },
  })
})

test('options behind the image belong to the command', () => {
  const { options, args } = parse('busybox', 'sh', '--rm', '-t')

  expect(args).toEqual(['busybox', 'sh', '--rm', '-t'])
  expect([options.rm, options.tty]).toEqual([undefined, undefined])
})

test('a container is called by its short id inside, or by its name', () => {
  const { options } = parse('busybox')

  expect(specOf(options, { id: ID, args: [] }, {}).hostname).toBe('0123456789ab')
  expect(specOf(options, { id: 'web', args: [] }, {}).hostname).toBe('web')
})

test('--net none is the default, and other networks are refused', () => {
  expect(specOf(parse('--net', 'none', 'x').options, { id: ID, args: [] }, {}).netHost).toBeUndefined()
  expect(() => parse('--net', 'bridge', 'x')).toThrow('There is no network "bridge"')
  expect(() => parse('-m', 'lots', 'x')).toThrow('write it like 64m')
  expect(() => parse('--mount', 'src=a,dst=/b', 'x')).toThrow('src must be an absolute path')
})

test('an env file has comments and names', () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-env-'))
  writeFileSync(join(dir, 'env'), '# comment\n\nA=1\r\n  B=2 \nHERE\n')

  const { options } = parse('--env-file', join(dir, 'env'), '-e', 'A=2', 'x')
  expect(specOf(options, { id: ID, args: [] }, { HERE: 'y' }).env).toEqual(['A=1', 'B=2 ', 'HERE=y', 'A=2'])
  expect(parseEnvFile('')).toEqual([])
  expect(resolveEnv(['A='], {})).toEqual(['A='])
  rmSync(dir, { recursive: true })
})

test.each(['a:/b', '/a', '/a:/b:ro:x', '/a:b'])('the volume %s is refused', (text) => {
  expect(() => parseVolume(text)).toThrow('/source:/destination')
})

test.each([
  ['exec: "x": executable file not found in $PATH: unknown', 127],
  ['executable file `x` not found in $PATH: No such file or directory', 127],
  ['exec: "/x": stat /x: no such file or directory', 127],
  ['exec: "/etc": permission denied', 126],
  ['exec: "/etc": is a directory', 126],
  ['error mounting "/none": no such file or directory', 125],
  ['no space left on device', 125],
])('%s ends with %i', (text, code) => {
  expect(startFailureCode(new Fault('unknown', text), 125)).toBe(code)
})
