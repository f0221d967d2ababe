import { Fault } from './fault.ts'

const MAX_BYTES = 4096 // of one key and its value together
const RESERVED_PREFIXES = ['containerd.io/', 'io.cri-containerd', 'gantry/']

/** The label of a container record that says, by `true`, that its command runs under a small init. */
export const INIT_LABEL = 'gantry/init'

export type Labels = Readonly<Record<string, string>>

/**
 * One pair may weigh at most 4096 bytes; the number of pairs is not limited.
 *
 * @throws {Fault} `invalid-argument` naming the key
 */
export function checkLabels(labels: Labels): void {
  for (const [key, value] of Object.entries(labels)) {
    const size = Buffer.byteLength(key) + Buffer.byteLength(value)
    if (size > MAX_BYTES)
      throw new Fault(
        'invalid-argument',
        `Cannot set label ${JSON.stringify(key.slice(0, 64))}: key and value take ${size} bytes, more than ${MAX_BYTES}`,
      )
  }
}

/** What is stored: a label set to the empty string is a label taken away. */
export function withoutEmpty(labels: Labels): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ''))
}

/** Drops what an image may not decide: labels that steer the runtime itself. Use it on labels of an image config. */
export function clearReserved(labels: Labels): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels).filter(([key]) => !RESERVED_PREFIXES.some((prefix) => key.startsWith(prefix))),
  )
}
