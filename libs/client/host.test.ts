import { expect, test } from 'vitest'
import { thisHost } from './host.ts'
import { ALL_CAPABILITIES, DEFAULT_CAPABILITIES } from './spec-defaults.ts'

test('the devices of the host are found with their numbers', () => {
  const devices = thisHost.devices()

  expect(devices).toContainEqual(expect.objectContaining({ path: '/dev/null', type: 'c', major: 1, minor: 3 }))
  expect(devices.some(({ path }) => path.startsWith('/dev/pts/'))).toBe(false)
})

test('capabilities stand at the place of their bit', () => {
  expect(ALL_CAPABILITIES[21]).toBe('CAP_SYS_ADMIN')
  expect(ALL_CAPABILITIES[40]).toBe('CAP_CHECKPOINT_RESTORE')
  expect(ALL_CAPABILITIES).toEqual(expect.arrayContaining([...DEFAULT_CAPABILITIES]))
})
