import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'

/** Says the priority of the thread before and after, of a thread it starts, and of a process. */
const SCRIPT = `
  import { execFileSync } from 'node:child_process'
  import { getPriority } from 'node:os'
  import { Worker } from 'node:worker_threads'
  import { goFirst } from ${JSON.stringify(new URL('./priority.ts', import.meta.url).href)}
  const before = getPriority()
  const went = goFirst()
  const code = "import('node:worker_threads').then(async (w) => w.parentPort.postMessage((await import('node:os')).getPriority()))"
  const worker = new Worker(code, { eval: true })
  worker.once('message', (thread) => {
    const child = Number(execFileSync('nice', { encoding: 'utf8' }))
    console.log(JSON.stringify({ before, went, after: getPriority(), thread, child }))
  })
`

test('a thread goes first; what it starts does not', () => {
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', SCRIPT], { encoding: 'utf8' })

  const { before, went, after, thread, child } = JSON.parse(out)
  expect({ after, thread, child }).toEqual(
    went ? { after: -10, thread: 0, child: 0 } : { after: before, thread: before, child: before },
  )
})
