import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { until } from './daemon.ts'
import { startOf } from './leaks.ts'
import { openMemoryFolder } from './memory-folder.ts'

const KILLED = `
const { openMemoryFolder } = await import(process.argv[1])
const { startDaemon } = await import(process.argv[2])
const { writeSync } = await import('node:fs')
openMemoryFolder()
const { pid } = startDaemon(['tail', '-f', '/dev/null', process.env.TMPDIR + '/x'])
writeSync(1, JSON.stringify({ folder: process.env.TMPDIR, pid }))
process.kill(process.pid, 'SIGKILL')
`

test('what a run that was killed left in memory goes with the next one', async (context) => {
  const modules = ['memory-folder.ts', 'daemon.ts'].map((name) => join(import.meta.dirname, name))
  const { stdout } = spawnSync(process.execPath, ['-e', KILLED, ...modules], { encoding: 'utf8', timeout: 30_000 })
  const { folder, pid } = JSON.parse(stdout)
  context.skip(folder === process.env.TMPDIR, 'there is too little memory for folders in it')
  expect(readFileSync('/proc/mounts', 'utf8')).toContain(folder)

  openMemoryFolder()[Symbol.dispose]()

  expect([readFileSync('/proc/mounts', 'utf8').includes(folder), existsSync(folder)]).toEqual([false, false])
  await until('its process has ended', () => startOf(pid) === undefined)
  expect(existsSync(process.env.TMPDIR ?? '/')).toBe(true) // the folder of this very run stays
})
