import type { ConfigChange } from '@gantry/client/image-config'
import { Fault } from '@gantry/model/fault'

const PORT = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/
const LAST_PORT = 65_535
/** `key=value`, `key="a value"`: parts with and without quotes, as a Dockerfile has them. */
const PAIR = /^\s*([^\s="']+)=((?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])*)(?=\s|$)/s
const VARIABLE = /\$[\w{]/

/**
 * What instructions of a Dockerfile change in the config of an image, the later ones over the earlier ones.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseChanges(instructions: readonly string[]): ConfigChange {
  const changes = instructions.map(parseChange)
  const [env, labels, exposedPorts] = [
    changes.flatMap(({ env = [] }) => env),
    changes.flatMap(({ labels = {} }) => Object.entries(labels)),
    changes.flatMap(({ exposedPorts = [] }) => exposedPorts),
  ]
  return {
    ...Object.assign({}, ...changes),
    ...(env.length > 0 && { env }),
    ...(labels.length > 0 && { labels: Object.fromEntries(labels) }),
    ...(exposedPorts.length > 0 && { exposedPorts }),
  }
}

function parseChange(text: string): ConfigChange {
  const [, name = '', value = ''] = /^\s*([a-z]+)\s+(\S.*?)\s*$/is.exec(text) ?? []
  if (!/^(CMD|ENTRYPOINT)$/i.test(name) && VARIABLE.test(value.replace(/\\.|'[^']*'/gs, '')))
    throw refuse(text, 'variables are not replaced: write their values')
  switch (name.toUpperCase()) {
    case 'CMD':
      return { cmd: parseCommand(value, text) }
    case 'ENTRYPOINT':
      return { entrypoint: parseCommand(value, text) }
    case 'ENV':
      return { env: pairsOf(value, text).map(([key, value]) => `${key}=${value}`) }
    case 'LABEL':
      return { labels: Object.fromEntries(pairsOf(value, text)) }
    case 'WORKDIR':
      if (value.startsWith('/')) return { workingDir: value }
      throw refuse(text, 'the folder has to begin with /')
    case 'USER':
      return { user: value }
    case 'EXPOSE':
      return { exposedPorts: value.split(/\s+/).map((port) => parsePort(port, text)) }
    default:
      throw refuse(text, 'give CMD, ENTRYPOINT, ENV, LABEL, WORKDIR, USER or EXPOSE with a value')
  }
}

/** A list in JSON is run as it is, anything else by a shell. */
function parseCommand(value: string, text: string): string[] {
  if (!value.startsWith('[')) return ['/bin/sh', '-c', value]
  try {
    const list: unknown = JSON.parse(value)
    if (Array.isArray(list) && list.every((part) => typeof part === 'string')) return list
  } catch {
    // told below
  }
  throw refuse(text, 'write a list as ["program", "argument"]')
}

function pairsOf(value: string, text: string): [string, string][] {
  const [, key, rest] = /^([^\s="']+)\s+(.*)$/s.exec(value) ?? []
  if (key !== undefined && rest !== undefined) return [[key, rest]] // the old form, without =
  const pairs: [string, string][] = []
  for (let left = value; left.trim() !== ''; ) {
    const match = PAIR.exec(left)
    if (!match) throw refuse(text, 'write it as key=value, with quotes around what has spaces')
    const [whole, name = '', quoted = ''] = match
    pairs.push([name, unquote(quoted)])
    left = left.slice(whole.length)
  }
  return pairs
}

function unquote(text: string): string {
  return text.replace(/"((?:\\.|[^"\\])*)"|'([^']*)'|\\(.)/gs, (_, double, single, escaped) =>
    double === undefined ? (single ?? escaped) : double.replace(/\\(["\\$])/g, '$1'),
  )
}

function parsePort(port: string, text: string): string {
  const [, number = '', protocol = 'tcp'] = PORT.exec(port) ?? []
  if (number === '' || Number(number) < 1 || Number(number) > LAST_PORT)
    throw refuse(text, 'a port is a number, as 80 or 53/udp')
  return `${Number(number)}/${protocol}`
}

function refuse(text: string, why: string): Fault {
  return new Fault('invalid-argument', `Cannot change ${JSON.stringify(text.slice(0, 128))}: ${why}`)
}
