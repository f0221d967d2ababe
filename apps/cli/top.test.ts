import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { lookAt } from './commands/top.ts'

test('of a long command line the start is read', async () => {
  const child = spawn('sh', ['-c', 'echo; read _', 'x'.repeat(100_000)])
  await once(child.stdout, 'data') // it runs

  const { uid, command = [] } = lookAt(child.pid ?? 0)

  expect([uid, ...command.slice(0, 3)]).toEqual([process.getuid?.(), 'sh', '-c', 'echo; read _'])
  expect(command.join(' ').length).toBeLessThanOrEqual(4096)
  child.stdin.end()
  await once(child, 'exit')
  expect(lookAt(child.pid ?? 0)).toEqual({})
})
