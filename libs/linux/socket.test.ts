import { execFileSync } from 'node:child_process'
import { existsSync, fstatSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { listenForFd } from './socket.ts'
import { openTerminal, setWindowSize } from './tty.ts'

const SEND = `
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendmsg([b"/dev/ptmx"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [os.open(sys.argv[2], os.O_RDONLY)]))])
`
const hasPython = existsSync('/usr/bin/python3')

test.skipIf(!hasPython)('a descriptor that was sent can be used (python3 sends it)', () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-fd-'))
  const path = join(dir, 's')
  {
    using socket = listenForFd(path)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(socket.receive()).toBeUndefined()

    execFileSync('/usr/bin/python3', ['-c', SEND, path, dir])
    const fd = socket.receive()

    expect(fstatSync(fd ?? -1).ino).toBe(statSync(dir).ino)
  }
  expect(existsSync(path)).toBe(false)
  rmSync(dir, { recursive: true })
})

test('a path that is too long for a socket is refused', () => {
  expect(() => listenForFd(`/tmp/${'x'.repeat(110)}`)).toThrow('longer than 107 bytes')
})

test('the size of a terminal can be set', () => {
  using terminal = openTerminal('/dev/ptmx')

  expect(() => setWindowSize(terminal.fd, { columns: 80, rows: 25 })).not.toThrow()
})
