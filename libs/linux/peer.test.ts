import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { peerOf } from './peer.ts'

test.skipIf(process.getuid?.() !== 0)('a peer is known by its process, user and all its groups', async () => {
  const folder = mkdtempSync('/tmp/gantry-peer-')
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const server = createServer().listen({ path: join(folder, 's'), writableAll: true })
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const dial = `import socket, time
s = socket.socket(socket.AF_UNIX)
s.connect("${folder}/s")
time.sleep(60)`
  const as = ['--reuid', '1234', '--regid', '1235', '--groups', '7,77,1236']
  chmodSync(folder, 0o711)
  const child = spawn('setpriv', [...as, '/usr/bin/python3', '-c', dial])
  onTestFinished(() => void child.kill('SIGKILL'))

  const [socket] = (await once(server, 'connection')) as [Socket & { _handle: { fd: number } }]
  const peer = peerOf(socket._handle.fd)
  socket.destroy()

  expect(peer).toEqual({ pid: child.pid, uid: 1234, gid: 1235, groups: [7, 77, 1236] })
})

test('what is no socket has no peer', () => {
  expect(() => peerOf(-1)).toThrow(expect.objectContaining({ code: 'EBADF' }))
})
