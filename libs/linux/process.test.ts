import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { borrowFd, identify, isAlive, processesIn, sendSignal, startTimeOf } from './process.ts'

test('a process is known by its pid and start time', async () => {
  const child = spawn('sleep', ['60'])
  const id = identify(child.pid ?? 0)

  expect(id).toBeDefined()
  if (id === undefined) return
  expect(isAlive(id)).toBe(true)
  expect(isAlive({ ...id, startTime: '1' })).toBe(false)
  expect(sendSignal({ ...id, startTime: '1' }, 9)).toBe(false)
  expect(isAlive(id)).toBe(true)

  const exited = once(child, 'exit')
  expect(sendSignal(id, 15)).toBe(true)
  expect(await exited).toEqual([null, 'SIGTERM'])
  expect(sendSignal(id, 15)).toBe(false)
  expect(startTimeOf(id.pid)).toBeUndefined()
})

test('a signal that does not exist is refused', () => {
  const self = identify(process.pid)

  expect(() => self && sendSignal(self, 4242)).toThrow('EINVAL')
})

test('processes are found by the folder they work in', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-cwd-'))
  const child = spawn('sleep', ['60'], { cwd: dir })
  await once(child, 'spawn')

  const found = processesIn(dir)

  expect(found.map(({ pid }) => pid)).toEqual([child.pid])
  child.kill('SIGKILL')
  await once(child, 'exit')
  rmSync(dir, { recursive: true })
  expect(processesIn(dir)).toEqual([])
})

test('a descriptor of another process can be borrowed', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-fd-'))
  const theirs = openSync(dir, 'r')
  const child = spawn('sleep', ['60'], { stdio: [theirs, 'ignore', 'ignore'] })
  await once(child, 'spawn')
  const id = identify(child.pid ?? 0) ?? { pid: 0, startTime: '0' }

  const fd = borrowFd(id, 0) ?? -1

  expect(fstatSync(fd).ino).toBe(fstatSync(theirs).ino)
  closeSync(fd)
  closeSync(theirs)
  child.kill('SIGKILL')
  await once(child, 'exit')
  expect(borrowFd(id, 0)).toBeUndefined()
  rmSync(dir, { recursive: true })
})
