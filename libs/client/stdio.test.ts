import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable, Writable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { leftStdio } from './left-stdio.ts'
import { attachStdio, openStdio } from './stdio.ts'

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'gantry-stdio-'))
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

const box = { name: 'box', terminal: false }

function sink() {
  const chunks: Buffer[] = []
  const stream = new Writable({
    write(chunk, _, done) {
      chunks.push(chunk)
      done()
    },
  })
  return { stream, text: () => Buffer.concat(chunks).toString() }
}

test('output is copied to its end and the folder goes', async () => {
  const [out, err] = [sink(), sink()]
  const io = openStdio(dir, box, { stdout: out.stream, stderr: err.stream })
  const writer = openSync(io.paths.stdout, constants.O_WRONLY)
  writeSync(writer, 'hello')
  closeSync(writer)
  closeSync(openSync(io.paths.stderr, constants.O_WRONLY))

  await io.drained()
  io[Symbol.dispose]()

  expect([out.text(), err.text()]).toEqual(['hello', ''])
  expect(readdirSync(dir)).toEqual([])
})

test('a FIFO that cannot be made leaves nothing behind', () => {
  const open = () => openStdio(dir, { ...box, name: 'no/such/folder' }, { stdout: sink().stream })

  expect(open).toThrow('ENOENT')
  expect(readdirSync(dir)).toEqual([])
})

test('an output that a stray process holds open is given up when it is quiet', async () => {
  const out = sink()
  const io = openStdio(dir, { ...box, terminal: true }, { stdout: out.stream })
  const writer = openSync(io.paths.stdout, constants.O_RDWR)
  writeSync(writer, 'bye')

  await io.drained()
  io[Symbol.dispose]()
  closeSync(writer)

  expect(out.text()).toBe('bye')
  expect(io.paths.stderr).toBe('')
})

test('input is copied after the start, and its end is told once everything is written', async () => {
  const io = openStdio(dir, box, { stdin: Readable.from(['a', 'b']) })
  const reader = openSync(io.paths.stdin, constants.O_RDONLY | constants.O_NONBLOCK)
  const ended = Promise.withResolvers<void>()
  expect(() => readSync(reader, Buffer.alloc(8))).toThrow('EAGAIN')

  io.started(ended.resolve)
  await ended.promise
  const bytes = Buffer.alloc(8)
  const length = readSync(reader, bytes)
  await setTimeout(10)

  expect(bytes.toString('utf8', 0, length)).toBe('ab')
  expect(readSync(reader, bytes)).toBe(0) // no writer is left
  io[Symbol.dispose]()
  closeSync(reader)
})

test('input that ended before the start still ends', async () => {
  const stdin = Readable.from([])
  stdin.resume()
  await setTimeout(10)
  const io = openStdio(dir, box, { stdin })

  await new Promise<void>((resolve) => io.started(resolve))

  io[Symbol.dispose]()
})

test('input whose source is torn down ends as well, once', async () => {
  const stdin = new PassThrough()
  const io = openStdio(dir, box, { stdin })
  const ends: string[] = []

  const ended = new Promise<void>((resolve) => {
    io.started(() => {
      ends.push('end')
      resolve()
    })
  })
  stdin.destroy()
  await ended
  await setTimeout(10)

  expect(ends).toEqual(['end'])
  io[Symbol.dispose]()
})

test('a stream of the caller is left as it was', async () => {
  const [stdin, { stream: stdout }] = [new PassThrough(), sink()]
  const listeners = () =>
    [stdin, stdout].flatMap((stream) => stream.eventNames().map((name) => [name, stream.listenerCount(name)]))
  const before = listeners()

  for (let n = 0; n < 3; n++) {
    const io = openStdio(dir, { ...box, terminal: true }, { stdin, stdout })
    io.started(() => undefined)
    await setTimeout(1)
    io[Symbol.dispose]()
  }
  await setTimeout(1)

  expect(listeners()).toEqual(before)
})

test('a broken destination does not stop the process that writes', async () => {
  const broken = new PassThrough()
  const io = openStdio(dir, { ...box, terminal: true }, { stdout: broken })
  broken.destroy(new Error('gone'))
  const writer = openSync(io.paths.stdout, constants.O_WRONLY | constants.O_NONBLOCK)
  for (let sent = 0; sent < 20; sent++) {
    writeSync(writer, Buffer.alloc(32 * 1024)) // far more than a FIFO holds: fails when nobody reads
    await setTimeout(5)
  }
  closeSync(writer)

  await io.drained()
  io[Symbol.dispose]()
})

test('nothing is made for a process without streams, or with a log', () => {
  const silent = openStdio(dir, box, {})
  const logged = openStdio(dir, box, { logUri: 'file:///tmp/log' })

  expect(silent.paths).toEqual({ stdin: '', stdout: '', stderr: '' })
  expect(logged.paths).toEqual({ stdin: '', stdout: 'file:///tmp/log', stderr: 'file:///tmp/log' })
  expect(readdirSync(dir)).toEqual([])
})

test('the folder of the FIFOs is made when it is missing, for its owner only', () => {
  const io = openStdio(join(dir, 'fifo'), box, { stdout: sink().stream })

  expect(io.paths.stdout).toMatch(/fifo\/[^/]+\/box-stdout$/)
  expect(existsSync(io.paths.stderr)).toBe(true)
  io[Symbol.dispose]()
})

test('FIFOs that were kept, or left, are joined by another client, and go with the process', async () => {
  const kept = openStdio(dir, box, { kept: true })
  const out = sink()
  const process = openSync(kept.paths.stdout, constants.O_RDWR | constants.O_NONBLOCK)
  const input = openSync(kept.paths.stdin, constants.O_RDONLY | constants.O_NONBLOCK)
  writeSync(process, 'before ')
  kept.leave()

  const first = attachStdio(dir, kept.paths, { stdin: Readable.from(['typed']), stdout: out.stream })
  await new Promise<void>((resolve) => first.started(resolve))
  first.leave()
  const second = attachStdio(dir, { ...kept.paths, stdout: `fifo://${kept.paths.stdout}` }, { stdout: out.stream })
  writeSync(process, 'after')
  await second.drained()
  second.leave()

  const bytes = Buffer.alloc(8)
  expect(bytes.toString('utf8', 0, readSync(input, bytes))).toBe('typed')
  expect(out.text()).toBe('before after')
  leftStdio(join(dir, 'other'), kept.paths)[Symbol.dispose]()
  expect(readdirSync(dir)).toHaveLength(1)
  leftStdio(dir, kept.paths)[Symbol.dispose]()
  expect(readdirSync(dir)).toEqual([])
  for (const fd of [process, input]) closeSync(fd)
})

test('only FIFOs are joined', () => {
  const none = { stdin: '', stdout: '', stderr: '' }

  expect(() => attachStdio(dir, none, {})).toThrow('goes nowhere')
  expect(() => attachStdio('', none, {})).toThrow('FIFOs of one host')
  for (const stdout of ['file:///tmp/log', '/etc/passwd', join(dir, 'none')])
    expect(() => attachStdio(dir, { ...none, stdout }, { stdout: sink().stream })).toThrow('no FIFO')
})

test.each(['/../x', '/./x', '/a/../x', '//x', '/a/../../x', '/x'])(
  'a stranger whose FIFO is %s below the folder of all cannot have that removed, nor what is around it',
  (path) => {
    const all = join(dir, 'fifo')
    mkdirSync(join(all, 'a'), { recursive: true })

    leftStdio(all, { stdin: '', stdout: `${all}${path}`, stderr: '' })[Symbol.dispose]()

    expect(readdirSync(dir)).toEqual(['fifo'])
    expect(readdirSync(all)).toEqual(['a'])
  },
)
