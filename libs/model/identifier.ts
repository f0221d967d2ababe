import { Fault } from './fault.ts'

const MAX_LENGTH = 76 // bytes; every allowed character is one byte
const PATTERN = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/

/**
 * Checks the name of a namespace, container, task, exec, sandbox or part of an event topic: 1 to 76 letters and digits,
 * parted by single dots, dashes or underscores.
 *
 * @param what names the thing in the message, such as `container id`
 * @throws {Fault} `invalid-argument`
 */
export function parseIdentifier(text: string, what: string): string {
  if (text === '') throw new Fault('invalid-argument', `Cannot use an empty ${what}`)
  if (text.length > MAX_LENGTH)
    throw new Fault('invalid-argument', `Cannot use ${what} ${show(text)}: longer than ${MAX_LENGTH} characters`)
  if (!PATTERN.test(text))
    throw new Fault(
      'invalid-argument',
      `Cannot use ${what} ${show(text)}: only letters and digits, parted by single ".", "-" or "_"`,
    )
  return text
}

/** Quoted and cut, so that a hostile name can neither forge a log line nor fill the log. */
function show(text: string): string {
  return JSON.stringify(text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}...` : text)
}
