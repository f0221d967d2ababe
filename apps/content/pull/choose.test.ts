import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { formatPlatform, parsePlatform } from '@gantry/model/platform'
import { expect, test } from 'vitest'
import { choose } from './choose.ts'
import { childLabels, sourceLabel } from './labels.ts'

const manifest = (platform: string): Descriptor => ({
  mediaType: MEDIA.ociManifest,
  digest: sha256Of(platform),
  size: 1n,
  ...(platform === 'any' ? {} : { platform: parsePlatform(platform) }),
})
const nameOf = ({ platform }: Descriptor) => (platform ? formatPlatform(platform) : 'any')

test.each([
  ['all without a wish', 'linux/amd64 linux/arm64 any', '', 0, 'linux/amd64 linux/arm64 any'],
  ['the one for the platform', 'linux/arm64 linux/amd64', 'linux/amd64', 0, 'linux/amd64'],
  ['not its 32-bit kin beside it', 'linux/386 linux/amd64', 'linux/amd64', 0, 'linux/amd64'],
  ['the kin when there is nothing better', 'linux/386 linux/arm64', 'linux/amd64', 0, 'linux/386'],
  ['the nearest variant', 'linux/arm/v5 linux/arm/v6', 'linux/arm/v7', 0, 'linux/arm/v6'],
  ['those for no platform too, last', 'any linux/amd64', 'linux/amd64', 0, 'linux/amd64 any'],
  ['only the best with a limit', 'any linux/arm64 linux/amd64', 'linux/amd64 linux/arm64', 1, 'linux/amd64'],
  ['one for each platform', 'linux/arm64 linux/amd64', 'linux/amd64 linux/arm64', 0, 'linux/amd64 linux/arm64'],
])('of an index come %s', (_, there, wanted, limit, chosen) => {
  const platforms = wanted.split(' ').filter(Boolean).map(parsePlatform)

  expect(choose(there.split(' ').map(manifest), { platforms, limit }, 'x').map(nameOf).join(' ')).toBe(chosen)
})

test('nothing that fits is not found', () => {
  const wish = { platforms: [parsePlatform('linux/s390x')], limit: 0 }

  expect(() => choose([manifest('linux/amd64')], wish, 'app:1')).toThrow(
    'app:1: no manifest for linux/s390x: it has linux/amd64',
  )
})

test('children are named by what they are', () => {
  const child = (mediaType: string, text: string): Descriptor => ({ mediaType, digest: sha256Of(text), size: 1n })
  const labels = childLabels([
    child(MEDIA.ociConfig, 'c'),
    child(MEDIA.ociLayer, 'l0'),
    child(MEDIA.dockerLayerGzip, 'l1'),
    child(MEDIA.ociIndex, 'm'),
    child('text/plain', 'x'),
    child(MEDIA.dockerConfig, 'c1'),
  ])

  expect(Object.keys(labels).map((key) => key.replace('containerd.io/gc.ref.content.', ''))).toEqual([
    'config',
    'l.0',
    'l.1',
    'm.0',
    '0',
    'config1',
  ])
})

test('a source is added in order, once, and never past what a label holds', () => {
  const reference = (path: string) => ({ host: 'docker.io', path, text: '' })
  const key = 'containerd.io/distribution.source.docker.io'
  const two = sourceLabel(sourceLabel({}, reference('b')), reference('a'))

  expect(two).toEqual({ [key]: 'a,b' })
  expect(sourceLabel(two, reference('a'))).toEqual(two)
  const full = { [key]: 'x'.repeat(4053) }
  expect(sourceLabel(full, reference('a'))).toEqual(full)
})
