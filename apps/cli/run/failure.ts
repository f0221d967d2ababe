import { isFault } from '@gantry/model/fault'

const NOT_FOUND = 127
const NOT_EXECUTABLE = 126

/** Docker's exit code for a process that could not be started: 127 no such program, 126 one that cannot be run, else `other`. */
export function startFailureCode(error: unknown, other: number): number {
  if (isFault(error, 'unavailable') || isFault(error, 'cancelled')) return other
  const text = error instanceof Error ? error.message : String(error)
  if (/mount/i.test(text)) return other
  if (/executable file .*not found|no such file or directory/i.test(text)) return NOT_FOUND
  if (/permission denied|is a directory|exec format error|not a directory/i.test(text)) return NOT_EXECUTABLE
  return other
}
