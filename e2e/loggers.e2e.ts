import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { onEveryTarget } from './harness/target.ts'

onEveryTarget((target) => {
  let image = ''
  let folder = ''
  beforeAll(async () => {
    image = await target().pull()
  })
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'logger-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  /** A logger that writes all it is told and gets to `log`. */
  function logger(ready: string): string {
    const path = join(folder, 'logger')
    const lines = ['#!/bin/sh', 'echo "$1 of $CONTAINER_NAMESPACE/$CONTAINER_ID" >>"$2"', ready]
    writeFileSync(path, [...lines, 'cat <&3 >>"$2" &', 'cat <&4 >>"$2" &', 'wait', ''].join('\n'))
    chmodSync(path, 0o755)
    return `${path}?to=${join(folder, 'log')}`
  }
  const log = () => readFileSync(join(folder, 'log'), 'utf8').replaceAll('\r', '').trim().split('\n').sort()

  test('a binary:// logger takes output and errors', async () => {
    const url = `binary://${logger('exec 5>&-')}`
    expect(
      (await target().ctr(['run', '-d', '--log-uri', url, image, 'lg1', 'sh', '-c', 'echo out; echo err >&2'])).code,
    ).toBe(0)

    const lines = [`to of ${target().namespace}/lg1`, 'out', 'err'].sort()
    await until('all is logged', async () => log().length >= 3)
    expect(log()).toEqual(lines)
    expect((await target().ctr(['tasks', 'rm', 'lg1'])).code).toBe(0)
    expect((await target().ctr(['containers', 'rm', 'lg1'])).code).toBe(0)
  })

  test('a file:// log takes output and errors, after what it has', async () => {
    const path = join(folder, 'deep/log')
    const lines = () => readFileSync(path, 'utf8').trim().split('\n')
    for (const id of ['lf1', 'lf2']) {
      const script = `echo ${id}; echo err ${id} >&2`
      await target().ctr(['run', '-d', '--log-uri', `file://${path}`, image, id, 'sh', '-c', script])
      await until('all is logged', () => existsSync(path) && lines().includes(id) && lines().includes(`err ${id}`))
      await until('it has ended', async () => (await target().ctr(['tasks', 'rm', id])).code === 0)
      await target().ctr(['containers', 'rm', id])
    }

    const sorted = [...lines().slice(0, 2).sort(), ...lines().slice(2).sort()] // containerd copies each stream for itself
    expect(sorted).toEqual(['err lf1', 'lf1', 'err lf2', 'lf2'])
  })

  test('a logger that fails stops the container from being made', async () => {
    const { code, stderr } = await target().ctr([
      ...['run', '-d', '--log-uri', `binary://${folder}/nothing`, image, 'lg2', 'true'],
    ])

    expect(code).toBe(1)
    expect(stderr).toContain('no such file or directory')
    await target().ctr(['containers', 'rm', 'lg2'])
  })
})
