/**
 * Makes the TypeScript client a package of its own: JavaScript and its types, for programs outside of this repository.
 *
 *   node tools/pack-client.ts FOLDER      what was there before goes
 *
 * `npm pack` makes one file of it, `npm run pack:client` does both. What it needs of our other libraries is inside:
 *
 *     package.json   client/   model/   rpc/   linux/   api/gen/
 */
import { spawnSync } from 'node:child_process'
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const TOP = resolve(import.meta.dirname, '..')
const LIBS = join(TOP, 'libs')
const TSC = join(TOP, 'node_modules', '.bin', 'tsc')
const TIMEOUT_MS = 120_000
const MAX_BYTES = 2 ** 24 // of what the compiler says

/** @throws when the client does not compile, with what the compiler said */
function packClient(folder: string): void {
  const work = mkdtempSync(join(tmpdir(), 'gantry-pack-'))
  try {
    compile(sourcesOf(work), work, folder)
    for (const file of globSync('**/*.{js,d.ts}', { cwd: folder })) {
      const path = join(folder, file)
      writeFileSync(path, ownImports(readFileSync(path, 'utf8')))
    }
    writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest(), null, 2)}\n`)
    for (const name of ['libs/client/README.md', 'LICENSE'])
      cpSync(join(TOP, name), join(folder, name.replace(/.*\//, '')))
  } finally {
    rmSync(work, { recursive: true })
  }
}

/** The client and all of our libraries that it reaches. */
function sourcesOf(work: string): string[] {
  const [include, exclude] = [[join(LIBS, 'client', '*.ts')], [join(LIBS, 'client', '*.test.ts')]]
  const listed = tsc(work, { include, exclude }, ['--listFilesOnly'])
  return listed.split('\n').filter((path) => path.startsWith(`${LIBS}/`))
}

function compile(files: readonly string[], work: string, folder: string): void {
  rmSync(folder, { recursive: true, force: true })
  const emit = { noEmit: false, declaration: true, rewriteRelativeImportExtensions: true }
  tsc(work, { files, compilerOptions: { ...emit, rootDir: LIBS, outDir: folder } }, [])
}

function tsc(work: string, config: object, flags: readonly string[]): string {
  const path = join(work, 'tsconfig.json')
  const given = { extends: join(TOP, 'tsconfig.base.json'), ...config }
  writeFileSync(path, JSON.stringify(given))
  const types = ['--typeRoots', join(TOP, 'node_modules', '@types')]
  const { status, stdout } = spawnSync(TSC, ['-p', path, ...types, ...flags], {
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    maxBuffer: MAX_BYTES,
  })
  if (status !== 0) throw new Error(`Cannot compile the client: ${stdout.slice(0, 2000)}`)
  return stdout
}

/** What is imported from a library of ours is found inside of the package, through its `imports`. */
function ownImports(text: string): string {
  return text
    .replace(/(['"])@gantry\/api\/([\w./-]+)\1/g, "'#api/gen/$2'")
    .replace(/(['"])@gantry\/(\w+)\/([\w./-]+)\1/g, "'#$2/$3'")
    .replace(/(from |import\()(['"])(\.{1,2}\/[\w./-]+)\.ts\2/g, "$1'$3.js'")
}

function manifest(): object {
  const { name, version, type, license, dependencies } = packageOf('client')
  const own = ['model', 'rpc', 'linux', 'api'].flatMap((lib) => Object.entries(packageOf(lib).dependencies))
  const foreign = [...Object.entries(dependencies), ...own].filter(([name]) => !name.startsWith('@gantry/'))
  const files = (folder: string) => ({ types: `./${folder}*.d.ts`, default: `./${folder}*.js` })
  return {
    ...{ name, version, type, license, description: 'A client of Gantry and of containerd' },
    engines: { node: '>=24' },
    exports: { '.': { types: './client/client.d.ts', default: './client/client.js' }, './*': files('client/') },
    imports: { '#*': files('') },
    dependencies: Object.fromEntries(foreign),
  }
}

interface Package {
  readonly name: string
  readonly version: string
  readonly type: string
  readonly license: string
  readonly dependencies: Readonly<Record<string, string>>
}

function packageOf(lib: string): Package {
  return JSON.parse(readFileSync(join(LIBS, lib, 'package.json'), 'utf8'))
}

const folder = process.argv[2]
if (folder === undefined) throw new Error('Cannot pack the client: say into which folder')
packClient(resolve(folder))
