import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { EnvelopeSchema } from '@gantry/api/containerd/types/event_pb'
import { afterAll, describe, expect, test } from 'vitest'
import { type Codec, jsonCodec, messageCodec } from './codec.ts'
import type { Key } from './key.ts'
import { openStore } from './store.ts'
import type { ListOptions, Table } from './table.ts'

const text: Codec<string> = { encode: (value) => Buffer.from(value), decode: (bytes) => Buffer.from(bytes).toString() }
const base = mkdtempSync(join(tmpdir(), 'gantry-store-'))
afterAll(() => rmSync(base, { recursive: true }))
let folders = 0
const newFolder = (): string => join(base, String(++folders), 'records')
const keysOf = (table: Table<string>, options?: ListOptions): string[] =>
  Array.from(table.list(options), ({ key }) => key.join('/'))

describe('writing', () => {
  test('what is written is there after opening again', async () => {
    const folder = newFolder()
    {
      await using store = openStore(folder)
      await store.write(() => store.table('things', text).put(['default', 'a'], 'one'))
    }
    await using store = openStore(folder)

    expect(store.table('things', text).get(['default', 'a'])).toBe('one')
    expect(statSync(folder).mode & 0o777).toBe(0o700)
  })

  test('a throw leaves nothing behind and reaches the caller', async () => {
    await using store = openStore(newFolder())
    const things = store.table('things', text)
    await store.write(() => things.put(['kept'], 'old'))

    const failing = store.write(() => {
      things.put(['kept'], 'new')
      things.put(['other'], 'x')
      throw new Error('no')
    })

    await expect(failing).rejects.toThrow('no')
    expect(await store.write(() => [things.get(['kept']), things.has(['other'])])).toEqual(['old', false])
  })

  test('a write sees its own changes, reads outside see only what is committed', async () => {
    await using store = openStore(newFolder())
    const things = store.table('things', text)
    await store.write(() => things.put(['a'], '1'))

    const inside = store.write(() => {
      things.put(['b'], '2')
      things.remove(['a'])
      return { keys: keysOf(things), a: things.get(['a']), b: things.get(['b']) }
    })
    const outside = { keys: keysOf(things), a: things.get(['a']) }

    expect(await inside).toEqual({ keys: ['b'], a: undefined, b: '2' })
    expect(outside).toEqual({ keys: ['a'], a: '1' })
    expect(keysOf(things)).toEqual(['b'])
  })

  test('a write sees the writes before it, although they are not committed yet', async () => {
    await using store = openStore(newFolder())
    const counter = store.table('counter', jsonCodec<number>())
    const add = () =>
      store.write(() => {
        const next = (counter.get(['n']) ?? 0) + 1
        counter.put(['n'], next)
        return next
      })

    const results: Promise<number>[] = []
    for (let i = 0; i < 500; i++) {
      results.push(add())
      if (i % 7 === 0) await new Promise(setImmediate)
    }

    expect(await Promise.all(results)).toEqual(Array.from({ length: 500 }, (_, i) => i + 1))
    expect(counter.get(['n'])).toBe(500)
  })

  test('a table changes only inside a write, and a write is never asynchronous or nested', async () => {
    await using store = openStore(newFolder())
    const things = store.table('things', text)

    expect(() => things.put(['a'], '1')).toThrow('only inside Store.write')
    await expect(store.write(async () => things.put(['a'], '1'))).rejects.toThrow('synchronous')
    await expect((await store.write(() => [store.write(() => 1)]))[0]).rejects.toThrow('nested')
    expect(things.has(['a'])).toBe(false)
  })

  test('closing waits for what is under way, later writes are refused', async () => {
    const folder = newFolder()
    const store = openStore(folder)
    const things = store.table('things', text)
    const writes = ['a', 'b', 'c'].map((name) => store.write(() => things.put([name], name)))

    await store[Symbol.asyncDispose]()
    await Promise.all(writes)

    await expect(store.write(() => 1)).rejects.toMatchObject({ code: 'unavailable' })
    await using again = openStore(folder)
    expect(keysOf(again.table('things', text))).toEqual(['a', 'b', 'c'])
  })

  test('values of a megabyte and thousands of changes in one write come back whole', async () => {
    await using store = openStore(newFolder())
    const things = store.table('things', text)
    const big = 'x'.repeat(1024 * 1024)

    await store.write(() => {
      things.put(['big'], big)
      for (let i = 0; i < 5000; i++) things.put(['many', String(i)], `value ${i}`)
    })

    expect(things.get(['big'])).toBe(big)
    expect(keysOf(things, { prefix: ['many'] })).toHaveLength(5000)
    expect(things.get(['many', '4999'])).toBe('value 4999')
  })

  test('messages are stored with codecs', async () => {
    await using store = openStore(newFolder())
    const table = store.table('events', messageCodec(EnvelopeSchema))
    const event = create(EnvelopeSchema, {
      namespace: 'default',
      event: { typeUrl: 't', value: new Uint8Array([1, 2]) },
    })

    await store.write(() => table.put(['x'], event))

    expect(table.get(['x'])).toEqual(event)
  })
})

test('the files of a store are not handed to the programs the process starts (security E, F)', async () => {
  const folder = newFolder()
  await using store = openStore(folder)
  await store.write(() => store.table('things', text).put(['a'], '1'))

  const { stdout } = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' })

  expect(stdout).toContain('/proc/')
  expect(stdout).not.toContain(folder)
})

describe('keys', () => {
  const names = [
    '',
    ' ',
    '/',
    'a',
    'a b',
    'a/b',
    'a:b@sha256:00',
    'A',
    'ä',
    'z',
    '\u{1f433}',
    '\uffff',
    '\u0000',
    '\u0001',
    '\u0002',
    'a\u0000',
    'a\u0000b',
    'a\u0001',
    'a\u0001b',
    'aa',
    'docker.io/library/busybox:latest',
  ]
  const all: Key[] = names.flatMap((first) => [[first], ...names.map((second) => [first, second])])
  const bytewise = (a: Key, b: Key): number => {
    for (const [i, part] of a.entries()) {
      const other = b[i]
      if (other === undefined) return 1
      const order = Buffer.compare(Buffer.from(part), Buffer.from(other))
      if (order !== 0) return order
    }
    return a.length - b.length
  }
  const sorted = all.toSorted(bytewise)
  const isBelow = (prefix: Key) => (key: Key) => prefix.every((part, i) => key[i] === part)

  test('any characters are kept apart, in the order of their bytes', async () => {
    await using store = openStore(newFolder())
    const things = store.table('things', jsonCodec<Key>())
    const neighbours = ['thing', 'things2', 'thinks'].map((name) => store.table(name, jsonCodec<Key>()))

    await store.write(() => {
      for (const key of all) things.put(key, key)
      for (const table of neighbours) table.put(['x'], ['x'])
    })

    expect(Array.from(things.list(), ({ key }) => key)).toEqual(sorted)
    expect(Array.from(things.list(), ({ value }) => value)).toEqual(sorted)
    expect(Array.from(things.list({ reverse: true }), ({ key }) => key)).toEqual(sorted.toReversed())
    for (const prefix of [[''], ['a'], ['a', 'a'], ['\u0000'], ['\u0001'], ['nothing']])
      expect(Array.from(things.list({ prefix }), ({ key }) => key)).toEqual(sorted.filter(isBelow(prefix)))
  })

  test('a listing can start behind any key, go backwards and be cut, also over uncommitted changes', async () => {
    await using store = openStore(newFolder())
    const things = store.table('things', jsonCodec<number>())
    const model = new Map(all.map((key, i) => [JSON.stringify(key), i]))
    const chosen = (n: number): Key => all[n % all.length] ?? []
    await store.write(() => {
      for (const [i, key] of all.entries())
        if (i % 3) things.put(key, i)
        else model.delete(JSON.stringify(key))
    })

    await store.write(() => {
      for (let i = 0; i < 200; i++) {
        const key = chosen(i * 37)
        if (i % 2) things.remove(key)
        else things.put(key, -i - 1)
        if (i % 2) model.delete(JSON.stringify(key))
        else model.set(JSON.stringify(key), -i - 1)
      }
      for (let i = 0; i < 300; i++) {
        const options: ListOptions = {
          ...(i % 4 && { prefix: [names[i % names.length] ?? ''] }),
          ...(i % 3 && { after: chosen(i * 53) }),
          reverse: i % 2 === 0,
          limit: i % 5 ? 1000 : i % 7,
        }
        expect(Array.from(things.list(options), ({ key, value }) => [key, value])).toEqual(listed(model, options))
      }
    })
    expect(Array.from(things.list(), ({ key, value }) => [key, value])).toEqual(listed(model, {}))
  })

  test('the parts behind a prefix come once each and in order, also over uncommitted changes', async () => {
    await using store = openStore(newFolder())
    const things = store.table('things', jsonCodec<number>())
    const left = all.filter((_, i) => i % 5)
    const partsOf = (prefix: Key, keys: readonly Key[]) =>
      new Set(
        keys
          .filter(isBelow(prefix))
          .toSorted(bytewise)
          .map((key) => key[prefix.length]),
      )
    const check = (keys: readonly Key[]): void => {
      for (const prefix of [[], [''], ['a'], ['\u0000'], ['\u0001'], ['nothing']])
        expect([...things.parts(prefix)]).toEqual([...partsOf(prefix, keys)].filter((part) => part !== undefined))
    }

    await store.write(() => {
      for (const key of all) things.put(key, 1)
    })
    check(all)
    await store.write(() => {
      for (const [i, key] of all.entries()) if (i % 5 === 0) things.remove(key)
      check(left)
    })
    check(left)
  })

  function listed(model: Map<string, number>, { prefix = [], after, reverse = false, limit = 1e9 }: ListOptions) {
    const keys = sorted.filter((key) => model.has(JSON.stringify(key)) && isBelow(prefix)(key))
    const ordered = reverse ? keys.toReversed() : keys
    const behind = after
      ? ordered.filter((key) => (reverse ? bytewise(key, after) < 0 : bytewise(key, after) > 0))
      : ordered
    return behind.slice(0, limit).map((key) => [key, model.get(JSON.stringify(key))])
  }

  test('more than one page is listed without a gap in both directions', async () => {
    await using store = openStore(newFolder())
    const things = store.table('things', text)
    const keys = Array.from({ length: 1024 }, (_, i) => String(i).padStart(4, '0'))

    await store.write(() => {
      for (const key of keys) things.put([key], '')
    })

    expect(keysOf(things)).toEqual(keys)
    expect(keysOf(things, { reverse: true })).toEqual(keys.toReversed())
  })

  test('a name may be long, but not longer than the database takes', async () => {
    await using store = openStore(newFolder())
    const things = store.table('things', text)

    await store.write(() => things.put(['default', 'x'.repeat(1850)], 'long'))

    expect(things.get(['default', 'x'.repeat(1850)])).toBe('long')
    expect(() => things.get(['x'.repeat(2000)])).toThrow(expect.objectContaining({ code: 'invalid-argument' }))
    expect(() => [...things.list({ prefix: ['x'.repeat(2000)] })]).toThrow(
      expect.objectContaining({ code: 'invalid-argument' }),
    )
    expect(() => things.get(['half of a pair: \ud83d'])).toThrow(expect.objectContaining({ code: 'invalid-argument' }))
    expect(() => things.get([])).toThrow(expect.objectContaining({ code: 'invalid-argument' }))
  })
})
