import { createInterface } from 'node:readline/promises'
import { Fault } from '@gantry/model/fault'
import type { Session } from '../session.ts'

/**
 * Asks on the terminal whether that is meant.
 *
 * @throws {Fault} `invalid-argument` where nobody can be asked, `failed-precondition` when it is not
 */
export async function confirm(
  { stdin, stderr, signal }: Pick<Session, 'stdin' | 'stderr' | 'signal'>,
  what: string,
): Promise<void> {
  if (!stdin.isTTY)
    throw new Fault('invalid-argument', `Cannot ask whether to remove ${what}: the input is no terminal; use --force`)
  using terminal = createInterface({ input: stdin, output: stderr, terminal: false }) // Ctrl-C stays a signal
  const over = new AbortController()
  terminal.once('close', () => over.abort())
  const either = AbortSignal.any([signal, over.signal])
  const answer = await terminal.question(`This removes ${what}. Go on? [y/N] `, { signal: either })
  if (!/^y(es)?$/i.test(answer.trim())) throw new Fault('failed-precondition', 'Nothing was removed')
}
