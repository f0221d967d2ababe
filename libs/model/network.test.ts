import { expect, test } from 'vitest'
import { formatNetwork, formatPort, parseNetworkLabel, parsePorts } from './network.ts'

const bridge = { name: 'bridge', ports: [], dns: [], search: [], hosts: [] }

test.each(['80:81', '127.0.0.1:80:81/udp', '[::1]:80:81/sctp'])('the port %s is read and written', (text) => {
  expect(parsePorts(text).map(formatPort)).toEqual([text.includes('/') ? text : `${text}/tcp`])
})

test('a range of ports is each of them', () => {
  expect(parsePorts('8000-8001:80-81').map(formatPort)).toEqual(['8000:80/tcp', '8001:81/tcp'])
})

test.each(['', '80', '0:80', '80:65536', '80-81:80', '81-80:81-80', '1-100:1-100', 'a:1', '1.2.3:80:80', '80:80/icmp'])(
  'the port %j is refused',
  (text) => {
    expect(() => parsePorts(text)).toThrow('Cannot publish')
  },
)

test('a network survives its label', () => {
  const request = {
    ...{ name: 'bridge', dns: ['1.1.1.1'], search: ['example.org'], hosts: ['db:10.0.0.2', 'six:::1'] },
    ports: parsePorts('[::1]:80:81/udp'),
  }

  expect(parseNetworkLabel(formatNetwork(request))).toEqual(request)
})

test.each([
  [{ ...bridge, name: '../x' }, 'Cannot use the network'],
  [{ ...bridge, dns: ['here'] }, 'Cannot use the name server'],
  [{ ...bridge, search: ['a b'] }, 'Cannot use the search domain'],
  [{ ...bridge, hosts: ['a\nb:1.1.1.1'] }, 'Cannot use the host'],
])('what would end up in files of the container is looked at: %j', (request, message) => {
  expect(() => parseNetworkLabel(JSON.stringify(request))).toThrow(message)
  expect(() => formatNetwork(request)).toThrow(message)
})
