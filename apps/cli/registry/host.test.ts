import { expect, test } from 'vitest'
import { hostOf } from './host.ts'

test.each([
  ['reg.example.com:5000', 'reg.example.com:5000'],
  ['https://reg.example.com/', 'reg.example.com'],
  ['https://index.docker.io/v1/', 'docker.io'],
  ['registry-1.docker.io', 'docker.io'],
])('%s is the host %s', (text, host) => {
  expect(hostOf(text)).toBe(host)
})

test.each(['', 'ftp://reg', 'reg/team', 'a b'])('%j is no host', (text) => {
  expect(() => hostOf(text)).toThrow(/^Cannot use (host|reference)/)
})
