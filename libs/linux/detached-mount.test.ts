import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openDetached } from './detached-mount.ts'
import { openIn } from './open-in.ts'
import { isSystemError } from './system.ts'

test.skipIf(process.getuid?.() !== 0)('a mount that only we see (skipped without root: it mounts)', () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-detached-'))
  for (const folder of ['lower', 'upper', 'work']) mkdirSync(join(dir, folder))
  writeFileSync(join(dir, 'lower', 'file'), 'below')
  const options = ['lower', 'upper', 'work'].map((name) => `${name}dir=${join(dir, name)}`)
  const mounts = () => readFileSync('/proc/self/mountinfo', 'utf8')
  const before = [mounts(), readlinkSync('/proc/thread-self/cwd')]
  {
    using open = openDetached([{ type: 'overlay', source: 'overlay', options }])
    const root = `/proc/self/fd/${open.fd}`

    expect(readFileSync(`${root}/file`, 'utf8')).toBe('below')
    symlinkSync('../..', `${root}/up`)
    closeSync(openIn(open.fd, 'up/../file', 0))
    writeFileSync(`${root}/file`, 'above')
    expect(readFileSync(join(dir, 'upper', 'file'), 'utf8')).toBe('above')
    expect([mounts(), readlinkSync('/proc/thread-self/cwd')]).toEqual(before)
  }
  const missing = [{ type: 'bind', source: join(dir, 'missing'), options: [] }]
  expect(() => openDetached(missing)).toThrow(expect.toSatisfy((error) => isSystemError(error, 'ENOENT')))
  expect([mounts(), readlinkSync('/proc/thread-self/cwd')]).toEqual(before)
  rmSync(dir, { recursive: true }) // nothing holds it
})
