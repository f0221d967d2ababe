import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startTimeOf } from './process.ts'
import { spawnDetached } from './spawn.ts'

test('a program gets its arguments, environment, folder and descriptors, and is reaped', async () => {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'gantry-spawn-')))
  const output = openSync(join(dir, 'out'), 'w')
  const signals = 'while read -r line; do case $line in Sig[BI]*) echo "$line";; esac; done </proc/self/status' // no child: for it signals are blocked
  const script = `echo "$1 $NAME $(pwd)"; cut -d" " -f6 /proc/$$/stat; echo $$; ${signals}; ls /proc/$$/fd`

  const fds = [openSync('/dev/null', 'r'), output, output]
  const { pid } = await spawnDetached({
    program: 'sh',
    args: ['-c', script, 'sh', 'a b'],
    env: { NAME: 'value' },
    cwd: dir,
    fds,
  })
  while (startTimeOf(pid) !== undefined) await sleep(5)

  const [first, session, own, blocked, ignored, ...open] = readFileSync(join(dir, 'out'), 'utf8').trim().split('\n')
  expect(first).toBe(`a b value ${dir}`)
  expect([session, own]).toEqual([`${pid}`, `${pid}`])
  expect([blocked, ignored]).toEqual(['SigBlk:\t0000000000000000', 'SigIgn:\t0000000000000000'])
  const usual = execFileSync('sh', ['-c', 'ls /proc/$$/fd']).toString().trim().split('\n') // who started us may have left some open
  expect(open).toEqual(usual)
  for (const fd of new Set(fds)) closeSync(fd)
  rmSync(dir, { recursive: true })
})

test('a program that is not there is told', async () => {
  const fd = openSync('/dev/null', 'r+')

  const what = { args: [], env: {}, cwd: '/' }
  await expect(spawnDetached({ ...what, program: '/nope', fds: [fd] })).rejects.toThrow('ENOENT')
  await expect(spawnDetached({ ...what, program: 'true', fds: [fd, 0] })).rejects.toThrow('overwritten')

  closeSync(fd)
})
