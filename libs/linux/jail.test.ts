import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

/** Runs `body` in a worker that has entered the jail `dir`, leads it out, and answers what `body` returned and what it sees then. */
function jailed(dir: string, body: string): Promise<unknown> {
  const source = `
    const { parentPort } = require('node:worker_threads')
    const fs = require('node:fs')
    import(${JSON.stringify(new URL('./jail.ts', import.meta.url).href)}).then(({ enterJail }) => {
      const jail = enterJail(${JSON.stringify(dir)})
      const inside = (() => { ${body} })()
      jail[Symbol.dispose]()
      parentPort.postMessage({ inside, after: fs.existsSync(${JSON.stringify(dir)}) })
    })`
  const worker = new Worker(source, { eval: true, trackUnmanagedFds: false })
  return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
}

describe.skipIf(process.getuid?.() !== 0)('a jail (skipped without root: chroot(2) needs it)', () => {
  let root: string

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'gantry-jail-'))
    mkdirSync(join(root, 'jail'))
    writeFileSync(join(root, 'secret'), 'outside')
  })
  afterEach(() => rmSync(root, { recursive: true }))

  test('links to the root and above stay inside, and the way out works', async () => {
    symlinkSync('/', join(root, 'jail', 'slash'))
    symlinkSync('../../../../..', join(root, 'jail', 'up'))

    const seen = await jailed(
      join(root, 'jail'),
      `fs.writeFileSync('/slash/secret', 'inside'); fs.writeFileSync('/up/also', '')
       return fs.readdirSync('/').sort()`,
    )

    expect(seen).toEqual({ inside: ['also', 'secret', 'slash', 'up'], after: true })
    expect(readFileSync(join(root, 'secret'), 'utf8')).toBe('outside')
  })

  test('modes are taken as they are and other threads stay outside', async () => {
    const seen = await jailed(join(root, 'jail'), `fs.mkdirSync('/d', 0o777); return fs.statSync('/d').mode & 0o777`)

    expect(seen).toEqual({ inside: 0o777, after: true })
    expect(readFileSync(join(root, 'secret'), 'utf8')).toBe('outside')
  })
})
