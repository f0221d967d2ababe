/**
 * The borders between packages, checked: who may import whom, and which package alone touches a library or the machine.
 *
 *   api, model  <-  linux  <-  rpc, store  <-  service, client  <-  apps  <-  e2e  <-  tools/bench
 *
 *   node tools/borders.ts      prints every violation and fails when there is one
 *
 * Biome keeps relative imports inside a package and declared names in package.json; it cannot express layers, this does.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'

export interface Source {
  /** from the top of the repository */
  readonly path: string
  readonly text: string
}

export interface Package {
  /** folder from the top of the repository: `libs/model` */
  readonly folder: string
  readonly dependencies: readonly string[]
  readonly sources: readonly Source[]
}

const LAYERS: readonly (readonly string[])[] = [
  ['libs/api', 'libs/model'],
  ['libs/linux'],
  ['libs/rpc', 'libs/store'],
  ['libs/service', 'libs/client'],
  ['apps/*'],
  ['e2e'],
  ['tools/bench'],
]

/** A library and the only package that may import it. */
const KEEPERS: Readonly<Record<string, string>> = {
  koffi: 'libs/linux',
  '@grpc/grpc-js': 'libs/rpc',
  lmdb: 'libs/store',
  nats: 'libs/service',
  pino: 'libs/service',
  '@opentelemetry/api': 'libs/service',
  '@opentelemetry/exporter-trace-otlp-http': 'libs/service',
  '@opentelemetry/resources': 'libs/service',
  '@opentelemetry/sdk-trace': 'libs/service',
}

/** What `model` may use of Node: it computes, it does no input or output. */
const PURE = new Set(['node:crypto', 'node:path', 'node:process', 'node:util', 'node:v8'])

/** Modules that do more than compute, and the file of the model that takes from one only what computes. */
const PURE_PART: Readonly<Record<string, string>> = { 'libs/model/network.ts': 'node:net' } // isIP

/** One line a violation: the file, what it imports, the rule. */
export function violations(packages: readonly Package[]): string[] {
  return packages.flatMap((owner) => [
    ...owner.dependencies.flatMap((name) => check(owner, { path: `${owner.folder}/package.json`, text: '' }, name)),
    ...owner.sources.flatMap((source) => importsOf(source.text).flatMap((name) => check(owner, source, name))),
  ])
}

function check(owner: Package, { path }: Source, name: string): string[] {
  const rule = name.startsWith('.')
    ? leaves(owner, path, name)
    : name.startsWith('node:')
      ? impure(owner, path, name)
      : foreign(owner, name)
  return rule ? [`${path} imports ${name}: ${rule}`] : []
}

function leaves(owner: Package, path: string, name: string): string | undefined {
  const target = relative('/', resolve('/', dirname(path), name))
  const isTestOfTools = path.endsWith('.test.ts') && target.startsWith('tools/')
  return target.startsWith(`${owner.folder}/`) || isTestOfTools
    ? undefined
    : 'it leaves its package, cross a border by name'
}

function impure(owner: Package, path: string, name: string): string | undefined {
  if (owner.folder !== 'libs/model' || path.endsWith('.test.ts') || PURE.has(name)) return undefined
  if (PURE_PART[path] === name) return undefined
  return 'the model does no input or output'
}

function foreign(owner: Package, name: string): string | undefined {
  const [first = '', second = ''] = name.split('/')
  const library = first.startsWith('@') ? `${first}/${second}` : first
  const keeper = KEEPERS[library]
  if (keeper !== undefined && keeper !== owner.folder) return `only ${keeper} may`
  if (first !== '@gantry' || library === nameOf(owner.folder)) return undefined
  const [own, other] = [
    layerOf(owner.folder),
    LAYERS.findIndex((layer) => layer.some((folder) => nameOf(folder) === library)),
  ]
  if (other === -1) return 'nothing may import an app'
  return other < own ? undefined : 'imports point down only'
}

function layerOf(folder: string): number {
  return LAYERS.findIndex((layer) => layer.includes(folder) || layer.includes(`${dirname(folder)}/*`))
}

function nameOf(folder: string): string {
  return `@gantry/${folder.split('/').at(-1)}`
}

/** Every module a source names: import and export declarations, and calls of `import`. */
export function importsOf(text: string): string[] {
  const pattern =
    /^\s*(?:import|export)\s[^'"`;]*?from\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm
  return [...text.matchAll(pattern)].map(([, ...names]) => names.find((name) => name !== undefined) ?? '')
}

/** Reads the packages of the working copy at `top`. */
export function readPackages(top: string): Package[] {
  const folders = [...below(top, 'libs'), ...below(top, 'apps'), 'e2e', 'tools/bench']
  return folders.map((folder) => {
    const manifest = JSON.parse(readFileSync(join(top, folder, 'package.json'), 'utf8')) as Record<
      string,
      Record<string, string> | undefined
    >
    const dependencies = Object.keys({ ...manifest.dependencies, ...manifest.devDependencies })
    const files = readdirSync(join(top, folder), { recursive: true, encoding: 'utf8' })
    const own = files.filter((file) => file.endsWith('.ts') && !/(^|\/)(node_modules|dist|gen)\//.test(file))
    const sources = own.map((file) => ({
      path: `${folder}/${file}`,
      text: readFileSync(join(top, folder, file), 'utf8'),
    }))
    return { folder, dependencies, sources }
  })
}

function below(top: string, group: string): string[] {
  return readdirSync(join(top, group)).map((name) => `${group}/${name}`)
}

if (import.meta.main) {
  const found = violations(readPackages(join(import.meta.dirname, '..')))
  for (const line of found) console.error(line)
  process.exitCode = found.length > 0 ? 1 : 0
}
