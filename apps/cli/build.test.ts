import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { isFresh, stampOf } from './fresh.cjs'

const LATE_MS = 60_000 // bundling, and a few starts of Node, on a machine that is busy
const dir = mkdtempSync(join(tmpdir(), 'gantry-build-'))
const dist = join(dir, 'dist')
const source = join(dir, 'source.ts')
afterEach(() => rmSync(dir, { recursive: true, force: true }))

test('a bundle is fresh until a source of it changes or goes', () => {
  mkdirSync(dist, { recursive: true })
  writeFileSync(source, 'one')
  expect(isFresh(dist)).toBe(false) // there is none yet
  writeFileSync(join(dist, 'inputs.json'), JSON.stringify([[source, stampOf(source)]]))
  expect(isFresh(dist)).toBe(true)

  const { atime, mtimeMs } = statSync(source)
  utimesSync(source, atime, new Date(mtimeMs + 5000))
  expect(isFresh(dist)).toBe(false)

  rmSync(source)
  expect(isFresh(dist)).toBe(false)
})

test(
  'the launcher finds its place by a link, and runs the sources where there is no bundle',
  () => {
    const top = join(import.meta.dirname, '..', '..')
    mkdirSync(join(dir, 'apps', 'cli'), { recursive: true })
    mkdirSync(join(dir, 'node_modules', '.bin'), { recursive: true })
    for (const name of ['gantry', 'start.cjs', 'fresh.cjs'])
      cpSync(join(top, 'apps', 'cli', name), join(dir, 'apps', 'cli', name))
    execFileSync('ln', ['-s', process.execPath, join(dir, 'node_modules', '.bin', 'node')])
    execFileSync('ln', ['-s', join(dir, 'apps', 'cli', 'gantry'), join(dir, 'gantry')])
    writeFileSync(
      join(dir, 'apps', 'cli', 'main.ts'),
      'const said: string[] = process.argv.slice(2); console.log(said)',
    )
    const run = () => execFileSync(join(dir, 'gantry'), ['a', 'b c'], { encoding: 'utf8', env: { HOME: dir } })

    expect(run()).toBe("[ 'a', 'b c' ]\n")
    expect(statSync(join(dir, '.cache', 'gantry')).mode & 0o777).toBe(0o700)

    const made = join(dir, 'apps', 'cli', 'dist')
    mkdirSync(made)
    writeFileSync(join(made, 'main.cjs'), 'console.log("bundle")')
    writeFileSync(join(made, 'inputs.json'), JSON.stringify([[join(dir, 'gantry'), stampOf(join(dir, 'gantry'))]]))
    expect(run()).toBe('bundle\n')
  },
  LATE_MS,
)

test.each([
  ['cli', 'main.cjs', ['run', '--help'], 'Usage: gantry run'],
  ['snapshots', 'main.mjs', ['--root', dir, '--state', dir, '--config', join(dir, 'none')], 'gantry-snapshots: '],
])(
  'the bundle of %s does what its sources do',
  (app, file, args, says) => {
    const apps = join(import.meta.dirname, '..')
    const build = join(apps, 'cli', 'build.mjs')
    const script = `import { build } from ${JSON.stringify(build)}; await build(${JSON.stringify([app, dist]).slice(1, -1)})`
    mkdirSync(dir, { recursive: true })
    symlinkSync(join(apps, '..', 'node_modules'), join(dir, 'node_modules'))
    execFileSync(process.execPath, ['--input-type=module', '-e', script])
    const run = (main: string) => {
      const { stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' })
      return stdout + stderr
    }

    const said = run(join(dist, file))
    expect(said).toContain(says)
    expect(said).toBe(run(join(apps, app, 'main.ts')))
  },
  LATE_MS,
)
