import { expect, test } from 'vitest'
import { parseMount } from './mount-option.ts'

test.each([
  ['type=bind,src=/a,dst=/b', { type: 'bind', source: '/a', destination: '/b', options: ['rbind'] }],
  ['src=/a,target=/b,options=bind:ro', { type: 'bind', source: '/a', destination: '/b', options: ['bind', 'ro'] }],
  ['source=/a,dst=/b/../c,readonly', { type: 'bind', source: '/a', destination: '/c', options: ['rbind', 'ro'] }],
  ['type=tmpfs,dst=/b,options=size=1m', { type: 'tmpfs', source: 'tmpfs', destination: '/b', options: ['size=1m'] }],
])('%s is understood', (text, mount) => {
  expect(parseMount(text)).toEqual(mount)
})

test.each(['src=/a', 'src=a,dst=/b', 'src=/a,dst=/', 'src=/a,dst=/b,dst=/c', 'src=/a,dst=/b,rdonly', ''])(
  '%s is refused',
  (text) => {
    expect(() => parseMount(text)).toThrow('Cannot use mount')
  },
)
