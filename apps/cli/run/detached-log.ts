import { fileURLToPath } from 'node:url'
import type { Container } from '@gantry/client/containers'
import type { StdioOptions } from '@gantry/client/stdio'
import { Fault } from '@gantry/model/fault'
import { RESTART_LOG } from '@gantry/model/restart'

/** Of a container that was made with -i, to run detached: its input and output wait for who attaches. */
export const ATTACHABLE = 'gantry/attachable'

/** The streams of a container that runs by itself: its record says where its output goes, else it is thrown away. */
export function detachedStdio({ labels }: Container): StdioOptions {
  const logUri = labels[RESTART_LOG] ?? ''
  if (logUri !== '') return { logUri }
  return labels[ATTACHABLE] === 'true' ? { kept: true } : {}
}

/** The file on the node that has the output of a container. @throws {Fault} `failed-precondition` without one */
export function logFile({ id, labels }: Container): string {
  const uri = labels[RESTART_LOG] ?? ''
  const why = uri === '' ? 'nothing keeps it, make it with --log-uri file:///...' : `it goes to ${uri}`
  if (!uri.startsWith('file:///')) throw new Fault('failed-precondition', `Cannot show what "${id}" wrote: ${why}`)
  return fileURLToPath(uri)
}

/** @throws {Fault} `invalid-argument` */
export function parseLogUri(text: string): string {
  if (/^(?:file|binary|binary-v2):\/\/\/./.test(text) && URL.canParse(text)) return text
  throw new Fault(
    'invalid-argument',
    `Cannot write to ${JSON.stringify(text)}: write it as file:///FILE or binary:///PROGRAM?key=value`,
  )
}
