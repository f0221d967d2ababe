import { join } from 'node:path'
import { expect, test } from 'vitest'
import { importsOf, type Package, readPackages, violations } from './borders.ts'

const file = (folder: string, text: string): Package => ({
  folder,
  dependencies: [],
  sources: [{ path: `${folder}/main.ts`, text }],
})

test('the packages of this repository keep the borders', () => {
  expect(violations(readPackages(join(import.meta.dirname, '..')))).toEqual([])
})

test.each([
  ['an app that imports an app', 'apps/content', '@gantry/metadata/rows', 'nothing may import an app'],
  ['a lib that imports an app', 'libs/rpc', '@gantry/cli/main', 'nothing may import an app'],
  ['the model reading files', 'libs/model', 'node:fs', 'the model does no input or output'],
  ['the model on the network', 'libs/model', 'node:net', 'the model does no input or output'],
  ['koffi outside linux', 'apps/tasks', 'koffi', 'only libs/linux may'],
  ['grpc-js outside rpc', 'apps/gateway', '@grpc/grpc-js', 'only libs/rpc may'],
  ['lmdb outside store', 'apps/metadata', 'lmdb', 'only libs/store may'],
  ['nats outside service', 'apps/gateway', 'nats', 'only libs/service may'],
  ['pino outside service', 'libs/rpc', 'pino', 'only libs/service may'],
  ['OpenTelemetry outside service', 'libs/rpc', '@opentelemetry/api', 'only libs/service may'],
  ['an import that points up', 'libs/store', '@gantry/service/bus', 'imports point down only'],
  ['an import that points sideways', 'libs/rpc', '@gantry/store/store', 'imports point down only'],
  [
    'a relative path into another package',
    'apps/content',
    '../../libs/model/digest.ts',
    'it leaves its package, cross a border by name',
  ],
])('%s is a violation', (_what, folder, name, rule) => {
  const declared: Package = { folder, dependencies: [name], sources: [] }

  expect(violations([file(folder, `import { x } from '${name}'`)])).toEqual([
    `${folder}/main.ts imports ${name}: ${rule}`,
  ])
  if (!/^[.]|^node:/.test(name))
    expect(violations([declared])).toEqual([`${folder}/package.json imports ${name}: ${rule}`])
})

test('an import that points down is none', () => {
  expect(violations([file('apps/tasks', "import { mount } from '@gantry/linux/mount'\nimport './tasks.ts'")])).toEqual(
    [],
  )
})

test('every way to name a module is seen', () => {
  const source = [
    "import a from 'one'",
    "import type { B } from 'two'",
    'import {\n  c,\n  d,\n} from "three"',
    "import 'four'",
    "export { e } from 'five'",
    "export * from 'six'",
    "const f = await import('seven')",
    "const g = 'not from eight'",
  ]

  expect(importsOf(source.join('\n')).sort()).toEqual(['one', 'two', 'three', 'four', 'five', 'six', 'seven'].sort())
})
