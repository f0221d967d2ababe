import { sha256Of } from '@gantry/model/digest'
import { expect, test } from 'vitest'
import { configWithLayer } from './image-config.ts'

const DIFF = sha256Of('new')
const step = { diffId: DIFF, created: new Date(0), createdBy: 'test' }
const said = { created: '1970-01-01T00:00:00.000Z', created_by: 'test' }

function changed(base: object, height: number, change = {}) {
  return JSON.parse(configWithLayer(Buffer.from(JSON.stringify(base)), height, { ...step, change }).toString())
}

test('a layer comes on top, and what we do not know of the image stays', () => {
  const config = {
    Env: ['PATH=/bin', 'A=1'],
    Cmd: ['sh'],
    Labels: { a: '1' },
    ExposedPorts: { '1/tcp': {} },
    Healthcheck: {},
  }
  const history = [{ created_by: 'one' }, { created_by: 'env', empty_layer: true }]
  const base = {
    architecture: 'amd64',
    os: 'linux',
    config,
    rootfs: { type: 'layers', diff_ids: ['d1'] },
    history,
    x: 1,
  }

  const change = { env: ['A=2', 'B=3'], labels: { b: '2' }, exposedPorts: ['2/udp'], user: 'u', workingDir: '/w' }
  expect(changed(base, 1, change)).toEqual({
    ...base,
    created: said.created,
    config: {
      ...config,
      ...{ Env: ['PATH=/bin', 'A=2', 'B=3'], Labels: { a: '1', b: '2' }, User: 'u', WorkingDir: '/w' },
      ExposedPorts: { '1/tcp': {}, '2/udp': {} },
    },
    rootfs: { type: 'layers', diff_ids: ['d1', DIFF] },
    history: [...history, said],
  })
})

test('another program is not given the arguments of the one before', () => {
  const base = { config: { Entrypoint: ['a'], Cmd: ['b'] } }

  expect(changed(base, 0, { entrypoint: ['c'] }).config).toEqual({ Entrypoint: ['c'], Cmd: [] })
  expect(changed(base, 0, { entrypoint: ['c'], cmd: ['d'] }).config).toEqual({ Entrypoint: ['c'], Cmd: ['d'] })
})

test('layers above those that stay go with their steps, and each that stays has one', () => {
  const history = [{ created_by: '1' }, { created_by: 'e', empty_layer: true }, { created_by: '2' }]
  const base = { rootfs: { diff_ids: ['d1', 'd2', 'd3'] }, history }

  expect(changed(base, 1).rootfs.diff_ids).toEqual(['d1', DIFF])
  expect(changed(base, 1).history).toEqual([...history.slice(0, 2), said])
  expect(changed(base, 3).history).toEqual([{}, ...history, said])
  expect(changed({}, 0)).toMatchObject({ rootfs: { diff_ids: [DIFF] }, history: [said] })
})
