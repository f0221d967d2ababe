import { execFileSync } from 'node:child_process'
import { delimiter, join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')
const TIMEOUT_MS = 60_000

/**
 * Runs buf over proto/. Files come to lie under `libs/api/gen` below `target`, the repository itself unless told otherwise;
 * what lay there before is removed first.
 *
 * @throws when a .proto file does not compile; buf has then said why on stderr
 */
export function generate(target: string = ROOT): void {
  const bin = join(ROOT, 'node_modules', '.bin')
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}`, BUF_TOKEN: '' }
  execFileSync(join(bin, 'buf'), ['generate', '--output', target], {
    cwd: ROOT,
    env,
    stdio: 'inherit',
    timeout: TIMEOUT_MS,
  })
}
