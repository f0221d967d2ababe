import { Fault } from '@gantry/model/fault'
import { parseIdentifier } from '@gantry/model/identifier'

/** Where all events live on the bus. */
export const EVENT_SUBJECTS = 'gantry.events.>'

const MAX_TOPIC = 256 // characters

/**
 * The subject of an event: `gantry.events.<namespace>.<component>...`. A dot inside a part becomes `~`, which no
 * identifier may contain; so no name can add a level, and no wildcard can come in.
 *
 * @param topic such as `/tasks/start` (behaviour facts, 10)
 * @throws {Fault} `invalid-argument`
 */
export function subjectOf(namespace: string, topic: string): string {
  if (!topic.startsWith('/') || topic.length > MAX_TOPIC)
    throw new Fault(
      'invalid-argument',
      `Cannot use topic ${JSON.stringify(topic.slice(0, MAX_TOPIC))}: it starts with "/" and has at most ${MAX_TOPIC} characters`,
    )
  const parts = topic.slice(1).split('/')
  const names = [
    parseIdentifier(namespace, 'namespace'),
    ...parts.map((part) => parseIdentifier(part, `part of topic ${JSON.stringify(topic)}`)),
  ]
  return `gantry.events.${names.map((name) => name.replaceAll('.', '~')).join('.')}`
}
