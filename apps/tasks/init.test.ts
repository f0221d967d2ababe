import { expect, test } from 'vitest'
import { findInit, withInit } from './init.ts'

test('a command runs under the init, which is mounted where the container finds it', () => {
  const spec = JSON.parse(withInit('{"process":{"args":["sh","-c","x"]},"mounts":[{"destination":"/proc"}]}', '/bin/i'))

  expect(spec).toEqual({
    process: { args: ['/sbin/docker-init', '--', 'sh', '-c', 'x'] },
    mounts: [{ destination: '/proc' }, expect.objectContaining({ source: '/bin/i', destination: '/sbin/docker-init' })],
  })
  expect(() => withInit('{}', '/bin/i')).toThrow('has no process')
})

test('an init that is not installed is named', () => {
  expect(findInit({ find: (name) => `/bin/${name}` }, 'catatonit')).toBe('/bin/catatonit')
  expect(() => findInit({ find: () => undefined }, 'other')).toThrow('"other"')
})
