import { Fault } from '@gantry/model/fault'

type Labels = Readonly<Record<string, string>>

/**
 * What `--filter label=key[=value]` lets through, as `docker ... prune`: all must hold; `label!=` lets through what has it not.
 *
 * @throws {Fault} `invalid-argument`
 */
export function labelFilter(texts: readonly string[]): (labels: Labels) => boolean {
  const wanted = texts.map(parseFilter)
  return (labels) => wanted.every((passes) => passes(labels))
}

function parseFilter(text: string): (labels: Labels) => boolean {
  const [, not, key = '', value] = /^label(!?)=([^=]+)(?:=(.*))?$/s.exec(text) ?? []
  if (key === '')
    throw new Fault(
      'invalid-argument',
      `Cannot filter by ${JSON.stringify(text)}: give label=key[=value] or label!=key[=value]`,
    )
  const has = (labels: Labels) => Object.hasOwn(labels, key) && (value === undefined || labels[key] === value)
  return (labels) => has(labels) === (not === '')
}
