import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'

test.skipIf(process.getuid?.() !== 0)(
  'a second process that is started by mistake ends, and touches nothing of the first (skipped without root)',
  { timeout: 60_000 },
  async () => {
    const base = mkdtempSync(join(tmpdir(), 'gantry-second-'))
    const first = start(base)
    try {
      await ready(first)
      const inUse = [join(base, 'state/snapshots-mounts/apply'), join(base, 'root/snapshots/overlayfs/7/fs')]
      for (const folder of inUse) mkdirSync(folder, { recursive: true })

      const second = start(base)
      const [complaint] = await Promise.all([text(second.stderr), text(second.stdout), ended(second)])

      expect(complaint).toContain('another process serves it')
      expect(second.exitCode).toBe(1)
      expect(inUse.map((folder) => existsSync(folder))).toEqual([true, true])
    } finally {
      first.kill('SIGKILL')
      await ended(first)
      rmSync(base, { recursive: true })
    }
  },
)

type Child = ChildProcessByStdio<null, Readable, Readable>

function start(base: string): Child {
  const main = join(import.meta.dirname, 'main.ts')
  const args = [main, '--root', join(base, 'root'), '--state', join(base, 'state')]
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
}

async function ready({ stdout }: Child): Promise<void> {
  let heard = ''
  for await (const piece of stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    heard += piece
    if (heard.includes('is ready')) return void stdout.resume()
  }
  throw new Error(`The process has ended: ${heard}`)
}

function ended(child: Child): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => child.once('close', () => resolve()))
}
