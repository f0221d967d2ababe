import { create } from '@bufbuild/protobuf'
import { ImageSchema } from '@gantry/api/containerd/services/images/v1/images_pb'
import { parseFilters } from '@gantry/model/filter'
import { expect, test } from 'vitest'
import { timestamp } from '../test-store.ts'
import { imageFields, newImage, updatedImage } from './image.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
const OTHER = `sha256:${'b'.repeat(64)}`
const TARGET = { mediaType: 'application/vnd.oci.image.index.v1+json', digest: DIGEST, size: 7n }
const THEN = timestamp(1)
const NOW = timestamp(2)

function image(init: object = {}) {
  return create(ImageSchema, { name: 'box', target: TARGET, ...init })
}

test('a new image gets our times, whatever the caller says', () => {
  const made = newImage(image({ createdAt: THEN, updatedAt: THEN }), NOW)

  expect(made).toEqual(image({ createdAt: NOW, updatedAt: NOW }))
})

test('of a target only media type, digest, size and annotations are kept', () => {
  const target = {
    ...TARGET,
    annotations: { a: '1' },
    urls: ['http://x'],
    platform: { os: 'linux' },
    data: new Uint8Array(3),
  }

  const made = newImage(image({ target }), NOW)

  expect(made.target).toEqual(image({ target: { ...TARGET, annotations: { a: '1' } } }).target)
})

test('a label without a value is not stored', () => {
  expect(newImage(image({ labels: { a: '1', b: '' } }), NOW).labels).toEqual({ a: '1' })
})

test.each([
  ['an empty name', { name: '' }],
  ['a malformed digest', { target: { ...TARGET, digest: 'sha256:abc' } }],
  ['a size of zero', { target: { ...TARGET, size: 0n } }],
  ['a negative size', { target: { ...TARGET, size: -1n } }],
  ['no media type', { target: { ...TARGET, mediaType: '' } }],
  ['a label that is too large', { labels: { a: 'x'.repeat(4096) } }],
])('an image with %s is refused', (_what, init) => {
  expect(() => newImage(image(init), NOW)).toThrow(expect.objectContaining({ code: 'invalid-argument' }))
})

test('an image without a target is refused', () => {
  expect(() => newImage(create(ImageSchema, { name: 'box' }), NOW)).toThrow(
    expect.objectContaining({ code: 'invalid-argument' }),
  )
})

test('an update without a mask replaces all but the time of creation', () => {
  const current = newImage(image({ labels: { a: '1' } }), THEN)
  const next = image({ labels: { b: '2' }, target: { ...TARGET, digest: OTHER }, createdAt: NOW })

  expect(updatedImage(current, next, [], NOW)).toEqual(
    image({ labels: { b: '2' }, target: { ...TARGET, digest: OTHER }, createdAt: THEN, updatedAt: NOW }),
  )
})

test.each([
  { path: 'labels', labels: { b: '2', c: '3' }, annotations: { x: '1' } },
  { path: 'labels.b', labels: { a: '1', b: '2' }, annotations: { x: '1' } },
  { path: 'labels.a', labels: {}, annotations: { x: '1' } },
  { path: 'annotations', labels: { a: '1' }, annotations: { y: '2' } },
  { path: 'annotations.y', labels: { a: '1' }, annotations: { x: '1', y: '2' } },
  { path: 'target', labels: { a: '1' }, annotations: { y: '2' }, digest: OTHER },
])('an update of $path changes nothing else', ({ path, labels, annotations, digest = DIGEST }) => {
  const current = newImage(image({ labels: { a: '1' }, target: { ...TARGET, annotations: { x: '1' } } }), THEN)
  const next = image({ labels: { b: '2', c: '3' }, target: { ...TARGET, digest: OTHER, annotations: { y: '2' } } })

  expect(updatedImage(current, next, [path], NOW)).toEqual(
    image({ labels, target: { ...TARGET, digest, annotations }, createdAt: THEN, updatedAt: NOW }),
  )
})

test.each(['name', 'target.digest', 'created_at', ''])('an update of "%s" is refused', (path) => {
  const current = newImage(image(), THEN)

  expect(() => updatedImage(current, image(), [path], NOW)).toThrow(
    expect.objectContaining({ code: 'invalid-argument' }),
  )
})

test.each([
  ['name==box', true],
  ['name~=^b', true],
  [`target.digest==${DIGEST}`, true],
  ['target.mediatype~=index', true],
  ['labels.a.b==1', true],
  ['labels."c/d"==2', true],
  ['annotations.x', true],
  ['labels.a.b==2', false],
  ['annotations.y', false],
  ['target.size==7', false],
])('the filter %s is %s', (filter, expected) => {
  const subject = image({ labels: { 'a.b': '1', 'c/d': '2' }, target: { ...TARGET, annotations: { x: '1' } } })

  expect(parseFilters([filter])(imageFields(subject))).toBe(expected)
})
