/** Reads what ctr prints. */

/** The words of every line but the heading. */
export function rows(table: string): string[][] {
  return table
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
}

export function words(text: string): string[] {
  return text.split(/\s+/).filter(Boolean)
}

/** What stderr says at its end, without the client's name and the time. */
export function complaint(stderr: string): string {
  return (stderr.trimEnd().split('\n').at(-1) ?? '').replace(/^ctr: /, '')
}
