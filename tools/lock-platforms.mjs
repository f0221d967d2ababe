/**
 * Completes package-lock.json with the optional packages of other platforms.
 *
 * A registry mirror may not carry a package for, say, darwin. `npm install` then leaves it out of the lock file, and `npm ci` refuses
 * that lock file because a dependency it knows of is missing. Run this after every change of a dependency:
 *
 *   node tools/lock-platforms.mjs           adds what is missing
 *   node tools/lock-platforms.mjs --check   fails, and names it, when something is missing
 *
 * Plain JavaScript: it must run on the host's own Node before anything is installed.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const SYSTEMS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32']
const PROCESSORS = ['arm64', 'arm', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'wasm32', 'x64']

const file = join(dirname(fileURLToPath(import.meta.url)), '..', 'package-lock.json')
const lock = JSON.parse(readFileSync(file, 'utf8'))
const missing = missingOptionals(lock.packages)

if (process.argv.includes('--check')) {
  for (const { name, of } of missing) console.error(`package-lock.json lacks ${name}, an optional dependency of ${of}`)
  if (missing.length > 0) console.error('Run: node tools/lock-platforms.mjs')
  process.exitCode = missing.length > 0 ? 1 : 0
} else if (missing.length > 0) {
  for (const { name, version } of missing) lock.packages[`node_modules/${name}`] = entry(name, version)
  const [root, ...others] = Object.keys(lock.packages)
  others.sort((a, b) => a.localeCompare(b, 'en'))
  lock.packages = Object.fromEntries([root, ...others].map((key) => [key, lock.packages[key]]))
  writeFileSync(file, `${JSON.stringify(lock, undefined, 2)}\n`)
  console.log(`package-lock.json: ${missing.length} entries for other platforms added`)
}

/** Every optional dependency some package names and no entry of the lock file provides. */
function missingOptionals(packages) {
  const found = new Map()
  for (const [path, { optionalDependencies = {} }] of Object.entries(packages))
    for (const [name, range] of Object.entries(optionalDependencies))
      if (!packages[`${path}/node_modules/${name}`] && !packages[`node_modules/${name}`])
        found.set(name, { name, version: range.replace(/^[~^]/, ''), of: path || 'the workspace' })
  return [...found.values()]
}

/** What npm would have written, as far as the name tells; without `integrity`, because nothing was downloaded. */
function entry(name, version) {
  const words = name.split(/[/-]/)
  const os = SYSTEMS.find((system) => words.includes(system))
  const cpu = PROCESSORS.find((processor) => words.some((word) => word === processor || word === `${processor}v7`))
  const libc = words.some((word) => word.startsWith('musl'))
    ? 'musl'
    : words.some((word) => word.startsWith('gnu'))
      ? 'glibc'
      : undefined
  return {
    version,
    ...(cpu && { cpu: [cpu] }),
    ...(libc && { libc: [libc] }),
    optional: true,
    ...(os && { os: [os] }),
  }
}
