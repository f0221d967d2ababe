import type { Readable, Writable } from 'node:stream'

/**
 * Where a process reads and writes. What is left out is /dev/null. With a terminal, stderr is part of stdout.
 * `null` for all of it: `{}`. A log URI (`file:///path`, `binary:///path?k=v`) replaces the streams for a detached process.
 */
export interface StdioOptions {
  readonly stdin?: Readable
  readonly stdout?: Writable
  readonly stderr?: Writable
  readonly logUri?: string
}
