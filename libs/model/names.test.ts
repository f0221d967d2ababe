import { expect, test } from 'vitest'
import { isZeroTime, toMs, toTimestamp, ZERO_TIME } from './clock.ts'
import { digestParts, parseDigest, sha256Of } from './digest.ts'
import { Fault, ignoring, isFault } from './fault.ts'
import { parseIdentifier } from './identifier.ts'
import { checkLabels, clearReserved, withoutEmpty } from './labels.ts'
import { parseNamespace } from './namespace.ts'

test.each(['a', 'a-b', 'a.b_c', '0', 'k8s.io', 'x'.repeat(76)])('identifier %s is accepted', (text) => {
  expect(parseIdentifier(text, 'id')).toBe(text)
})

test.each(['', '-a', 'a-', 'a..b', 'a/b', 'a b', 'é', 'a\n', '../x', 'a.*', 'gantry.>', 'x'.repeat(77)])(
  'identifier %j is refused',
  (text) => {
    expect(() => parseNamespace(text)).toThrow(Fault)
  },
)

test('a digest is accepted with its exact length and split into its parts', () => {
  const digest = sha256Of('')

  expect(digest).toBe('sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
  expect(digestParts(parseDigest(digest))).toEqual({ algorithm: 'sha256', hex: digest.slice(7) })
  expect(parseDigest(`sha512:${'0'.repeat(128)}`)).toHaveLength(135)
})

test.each([
  ['another algorithm', `md5:${'0'.repeat(32)}`],
  ['upper case', `sha256:${'A'.repeat(64)}`],
  ['a short hex part', 'sha256:abc'],
  ['a path in it (CVE-2024-3727)', `sha256:../../${'0'.repeat(58)}`],
  ['a line break after it', `sha256:${'0'.repeat(64)}\n`],
  ['only an algorithm', 'sha256:'],
  ['nothing', ''],
])('a digest with %s is refused', (_, text) => {
  expect(() => parseDigest(text)).toThrow('not a digest')
})

test('a label pair may weigh 4096 bytes and no more', () => {
  expect(() => checkLabels({ k: 'v'.repeat(4095), other: 'v'.repeat(4000) })).not.toThrow()
  expect(() => checkLabels({ k: 'v'.repeat(4096) })).toThrow('4097 bytes')
  expect(() => checkLabels({ k: 'é'.repeat(2048) })).toThrow('4097 bytes')
})

test('labels lose empty values, and those of an image lose what is reserved (CVE-2026-53488)', () => {
  expect(withoutEmpty({ a: '', b: '1' })).toEqual({ b: '1' })
  expect(
    clearReserved({ 'containerd.io/restart.loguri': 'binary://x', 'io.cri-containerd.kind': 'x', a: '1' }),
  ).toEqual({ a: '1' })
})

test('a time becomes seconds and nanoseconds, also before 1970', () => {
  expect(toTimestamp(1500.25)).toEqual({ seconds: 1n, nanos: 500_250_000 })
  expect(toTimestamp(new Date(-1))).toEqual({ seconds: -1n, nanos: 999_000_000 })
  expect(toMs(toTimestamp(1234))).toBe(1234)
  expect(isZeroTime(ZERO_TIME)).toBe(true)
})

test('ignoring swallows the named fault only', async () => {
  const fault = new Fault('not-found', 'Cannot find it')

  expect(await ignoring('not-found', Promise.reject(fault))).toBeUndefined()
  await expect(ignoring('aborted', Promise.reject(fault))).rejects.toBe(fault)
  expect(isFault(new Error('x'))).toBe(false)
})
