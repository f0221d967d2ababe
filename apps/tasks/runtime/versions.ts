/** A known hole of an OCI runtime and the versions that closed it, oldest first, one a release line. */
interface Hole {
  readonly id: string
  readonly fixed: readonly string[]
}

/** Distributions close holes without a new version number, so an old one is a reason to look, not a proof. */
const HOLES: Record<'runc' | 'crun', readonly Hole[]> = {
  runc: [
    { id: 'CVE-2019-5736', fixed: ['1.0.0'] },
    { id: 'CVE-2021-30465', fixed: ['1.0.0'] },
    { id: 'CVE-2023-27561', fixed: ['1.1.5'] },
    { id: 'CVE-2024-21626', fixed: ['1.1.12'] },
    { id: 'CVE-2025-31133', fixed: ['1.2.8', '1.3.3'] },
    { id: 'CVE-2025-52565', fixed: ['1.2.8', '1.3.3'] },
    { id: 'CVE-2025-52881', fixed: ['1.2.8', '1.3.3'] },
  ],
  crun: [{ id: 'CVE-2022-27650', fixed: ['1.4.4'] }],
}

/** Name and version out of what `runc --version` or `crun --version` prints. */
export function parseVersion(text: string): { readonly name: string; readonly version: string } | undefined {
  const [, name, version] = /^(\S+) version (\d+\.\d+(?:\.\d+)?)/m.exec(text) ?? []
  return name === undefined || version === undefined ? undefined : { name, version }
}

/** The holes a version is known to have. */
export function holesOf(name: string, version: string): string[] {
  const holes = name === 'runc' || name === 'crun' ? HOLES[name] : []
  return holes.filter(({ fixed }) => !isFixed(version, fixed)).map(({ id }) => id)
}

/** A release line that got the fix counts by itself; any other is fixed when it is newer than the newest fix. */
function isFixed(version: string, fixed: readonly string[]): boolean {
  const line = (text: string): string => text.split('.').slice(0, 2).join('.')
  const own = fixed.find((each) => line(each) === line(version)) ?? fixed.at(-1) ?? '0'
  return compare(version, own) >= 0
}

function compare(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}
