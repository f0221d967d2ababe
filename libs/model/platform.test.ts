import { expect, test } from 'vitest'
import { formatPlatform, hostPlatform, matcher, parsePlatform, strictMatcher } from './platform.ts'

test.each([
  ['linux/x86_64', 'linux/amd64'],
  ['linux/amd64/v1', 'linux/amd64'],
  ['linux/amd64/v3', 'linux/amd64/v3'],
  ['Linux/ARM64/v8', 'linux/arm64'],
  ['linux/aarch64/9.0', 'linux/arm64/v9'],
  ['linux/armhf', 'linux/arm/v7'],
  ['linux/armel', 'linux/arm/v6'],
  ['linux/arm', 'linux/arm/v7'],
  ['linux/arm/6', 'linux/arm/v6'],
  ['linux/i386', 'linux/386'],
  ['macos/arm64', 'darwin/arm64'],
  ['windows(10.0.17763+win32k)/amd64', 'windows(10.0.17763+win32k)/amd64'],
])('%s is %s', (text, normal) => {
  expect(formatPlatform(parsePlatform(text))).toBe(normal)
})

test('one word alone is an OS or an architecture', () => {
  expect(parsePlatform('arm64')).toEqual({ os: hostPlatform().os, architecture: 'arm64' })
  expect(parsePlatform('windows')).toEqual({ os: 'windows', architecture: hostPlatform().architecture })
})

test.each(['', '*', 'linux/*', 'plum', 'linux/', '/amd64', 'a/b/c/d', 'linux(/amd64', 'linux/am d64', 'l'.repeat(300)])(
  'platform %j is refused',
  (text) => {
    expect(() => parsePlatform(text)).toThrow('Cannot use platform')
  },
)

test.each([
  [
    'linux/amd64/v3',
    ['linux/amd64/v3', 'linux/amd64/v2', 'linux/amd64', 'linux/386'],
    ['linux/amd64/v4', 'linux/arm64'],
  ],
  ['linux/amd64', ['linux/amd64', 'linux/386'], ['linux/amd64/v2', 'windows/amd64']],
  ['linux/arm/v7', ['linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5'], ['linux/arm/v8', 'linux/arm64']],
  ['linux/arm64', ['linux/arm64', 'linux/arm/v8', 'linux/arm/v7', 'linux/arm/v5'], ['linux/arm64/v9']],
  [
    'linux/arm64/v9.1',
    ['linux/arm64/v9.1', 'linux/arm64/v9', 'linux/arm64/v8.6', 'linux/arm64', 'linux/arm/v8'],
    ['linux/arm64/v9.2', 'linux/arm64/v8.7'],
  ],
])('%s runs its kin, the nearest first', (wanted, runs, refuses) => {
  const { match, less } = matcher(parsePlatform(wanted))
  const order = [...refuses, ...runs].reverse().map(parsePlatform)
  order.sort((a, b) => Number(less(b, a)) - Number(less(a, b)))

  expect(order.slice(0, runs.length).map(formatPlatform)).toEqual(runs)
  expect(refuses.map(parsePlatform).some(match)).toBe(false)
})

test('an image may not need OS features that are not offered', () => {
  const { match } = matcher({ os: 'linux', architecture: 'amd64', osFeatures: ['a'] })

  expect(match({ os: 'linux', architecture: 'amd64', osFeatures: ['a'] })).toBe(true)
  expect(match({ os: 'linux', architecture: 'amd64', osFeatures: ['a', 'b'] })).toBe(false)
})

test('Windows compares build numbers', () => {
  const { match } = matcher({ os: 'windows', architecture: 'amd64', osVersion: '10.0.17763.1' })

  expect(match({ os: 'windows', architecture: 'amd64', osVersion: '10.0.17763.99' })).toBe(true)
  expect(match({ os: 'windows', architecture: 'amd64', osVersion: '10.0.20348.1' })).toBe(false)
})

test('a strict matcher takes no kin', () => {
  const { match } = strictMatcher(parsePlatform('linux/amd64'))

  expect(match(parsePlatform('linux/x86_64'))).toBe(true)
  expect(match(parsePlatform('linux/386'))).toBe(false)
})
