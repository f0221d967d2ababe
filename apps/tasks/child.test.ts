import { expect, test } from 'vitest'
import { runToEnd } from './child.ts'

const options = { env: { PATH: '/usr/bin:/bin' }, input: '', maxBytes: 1000 }

test('a program has ended although what it left behind keeps its output open', async () => {
  const { code, output } = await runToEnd('sh', ['-c', 'sleep 1000 & echo $!; exit 3'], options)

  expect(output).toMatch(/^[1-9]\d*\n$/)
  process.kill(Number(output), 'SIGKILL')
  expect(code).toBe(3)
})
