import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { loadConfig, parseConfig, socketOf } from './config.ts'

const Content = z.strictObject({
  max_downloads: z.number().int().min(1).default(3),
  registry: z.strictObject({ config_path: z.string() }).optional(),
})
const base = mkdtempSync(join(tmpdir(), 'gantry-config-'))
afterAll(() => rmSync(base, { recursive: true }))
const read = (text: string, options = {}) => parseConfig('content', Content, { file: 'gantry.toml', text, options })

describe('what is read', () => {
  test('an empty file gives the defaults', () => {
    expect(read('')).toEqual({
      root: '/var/lib/gantry',
      state: '/run/gantry',
      max_downloads: 3,
      metrics: { address: undefined },
      trace: { endpoint: undefined, ratio: 1 },
      nats: {
        url: undefined,
        urlFile: '/run/gantry/nats/url',
        tokenFile: undefined,
        maxAgeH: 168,
        maxBytes: 1024 ** 3,
        instance: { app: 'content', address: '/run/gantry/content.sock' },
      },
    })
  })

  test('the command line wins over the file', () => {
    const text = 'root = "/a"\nstate = "/b"\n[nats]\nurl = "nats://host:1"\nmax_age_h = 2\n[content]\nmax_downloads = 9'

    const fromFile = read(text)
    const flagged = read(text, { root: '/c', state: '/d', nats: 'nats://other:2' })

    expect(fromFile).toMatchObject({
      root: '/a',
      state: '/b',
      max_downloads: 9,
      nats: { url: 'nats://host:1', maxAgeH: 2 },
    })
    expect(flagged).toMatchObject({ root: '/c', state: '/d', nats: { url: 'nats://other:2', urlFile: '/d/nats/url' } })
    expect(socketOf(flagged, 'gantry')).toBe('/d/gantry.sock')
  })

  test('the sample of the page on observability', () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/observability.md'), 'utf8')
    const [, sample = ''] = /```toml\n([^`]+)```/.exec(page) ?? []

    expect(read(sample)).toMatchObject({
      metrics: { address: { host: '127.0.0.1', port: 9642 } },
      trace: { endpoint: 'http://127.0.0.1:4318', ratio: 0.1 },
    })
  })

  test('the tables of other processes are none of our business', () => {
    expect(read('[tasks]\nanything = 1').max_downloads).toBe(3)
  })
})

test.each([
  ['stat = "/x"', 'Cannot use gantry.toml: there is no key "stat" at the top level, did you mean "state"?'],
  ['[contents]', 'Cannot use gantry.toml: there is no key "contents" at the top level, did you mean "content"?'],
  [
    '[content]\nmax_dowloads = 1',
    'Cannot use gantry.toml: there is no key "max_dowloads" in [content], did you mean "max_downloads"?',
  ],
  [
    '[content.registry]\nconfig_pth = ""\nconfig_path = ""',
    'Cannot use gantry.toml: there is no key "config_pth" in [content.registry], did you mean "config_path"?',
  ],
  ['[nats]\nmax_age = 1', 'Cannot use gantry.toml: there is no key "max_age" in [nats], did you mean "max_age_h"?'],
  ['elephants = 1', 'Cannot use gantry.toml: there is no key "elephants" at the top level'],
  [
    '[content]\nmax_downloads = 0',
    'Cannot use gantry.toml: content.max_downloads: Too small: expected number to be >=1',
  ],
  ['root = "relative"', 'Cannot use gantry.toml: root: must be an absolute path'],
  ['[nats]\nurl = "http://x"', 'Cannot use gantry.toml: nats.url: must look like nats://host:port'],
  ['root = ', 'Cannot read gantry.toml, line 1: '],
])('a slip in %j is explained in one line', (text, message) => {
  expect(() => read(text)).toThrow(message)
  try {
    read(text)
  } catch (error) {
    expect(String(error)).not.toContain('\n')
  }
})

test('a state folder whose sockets would have too long a path is refused', () => {
  const fits = `/${'s'.repeat(107 - 1 - '/snapshots.sock.metrics'.length)}`

  expect(read('', { state: fits }).state).toBe(fits)
  expect(() => read('', { state: `${fits}s` })).toThrow('paths of 108 bytes, the kernel takes 107')
})

describe('on disk', () => {
  test('the folders are made for us alone, and a file that was named must exist', () => {
    const [root, state] = [join(base, 'a/root'), join(base, 'a/state')]
    const file = join(base, 'gantry.toml')
    writeFileSync(file, `root = "${root}"\nstate = "${state}"\n`)

    loadConfig('content', Content, { config: file })

    expect([root, state].map((folder) => statSync(folder).mode & 0o777)).toEqual([0o700, 0o700])
    expect(() => loadConfig('content', Content, { config: join(base, 'absent.toml') })).toThrow('there is no such file')
  })

  test('an empty folder is closed to others, a used one that is open to them is refused', () => {
    const [empty, used] = [join(base, 'empty'), join(base, 'used')]
    mkdirSync(empty)
    mkdirSync(join(used, 'something'), { recursive: true })
    for (const folder of [empty, used]) chmodSync(folder, 0o755)

    loadConfig('content', Content, { root: empty, state: join(base, 's') })

    expect(statSync(empty).mode & 0o777).toBe(0o700)
    expect(() => loadConfig('content', Content, { root: used, state: join(base, 's') })).toThrow('mode 755')
    expect(statSync(used).mode & 0o777).toBe(0o755)
  })
})
