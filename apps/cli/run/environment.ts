/**
 * What `-e` and the lines of an `--env-file` say: `KEY=value`, or `KEY` alone for the value it has here, or for nothing
 * when it has none. Empty lines and those that begin with `#` say nothing.
 */
export function resolveEnv(entries: readonly string[], env: Readonly<Record<string, string | undefined>>): string[] {
  return entries.flatMap((entry) => {
    if (entry.includes('=')) return [entry]
    const value = env[entry]
    return value === undefined ? [] : [`${entry}=${value}`]
  })
}

export function parseEnvFile(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.replace(/\r$/, '').trimStart())
    .filter((line) => line !== '' && !line.startsWith('#'))
}
