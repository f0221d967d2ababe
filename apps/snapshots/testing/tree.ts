import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { lgetxattr, llistxattr } from '@gantry/linux/file'

/** What a test wants to know of one file, in one line: so that trees compare as lists. */
export function listTree(root: string, options: { readonly times?: boolean } = {}): string[] {
  const first = new Map<bigint, string>()
  const visit = (path: string): string[] => {
    const full = join(root, path)
    const stat = lstatSync(full, { bigint: true })
    const sameAs = stat.isDirectory() ? undefined : first.get(stat.ino)
    first.set(stat.ino, path)
    const facts = [
      path || '.',
      (Number(stat.mode) & 0o170000).toString(8),
      stat.isSymbolicLink() ? '' : (Number(stat.mode) & 0o7777).toString(8),
      `${stat.uid}:${stat.gid}`,
      options.times ? String(stat.mtimeNs) : '',
      stat.isFile() ? contentOf(readFileSync(full)) : '',
      stat.isSymbolicLink() ? `-> ${readlinkSync(full)}` : '',
      stat.rdev === 0n ? '' : `dev ${stat.rdev}`,
      sameAs === undefined ? '' : `= ${sameAs}`,
      ...llistxattr(full)
        .sort()
        .map((name) => `${name}=${Buffer.from(lgetxattr(full, name) ?? []).toString('hex')}`),
    ]
    const below = stat.isDirectory()
      ? readdirSync(full)
          .sort()
          .flatMap((name) => visit(join(path, name)))
      : []
    return [facts.filter((fact) => fact !== '').join(' '), ...below]
  }
  return visit('').slice(1)
}

function contentOf(bytes: Buffer): string {
  return bytes.length <= 40
    ? bytes.toString('latin1')
    : `${bytes.length} bytes ${createHash('sha256').update(bytes).digest('hex')}`
}
