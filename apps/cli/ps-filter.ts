import type { Container } from '@gantry/client/containers'
import { Fault } from '@gantry/model/fault'
import { normalizeReference } from '@gantry/model/reference'

/** Does a container pass? @param status in Docker's words */
type Filter = (container: Container, status: string) => boolean

const STATUSES = ['created', 'running', 'paused', 'exited']

/** `name=`, `id=`, `status=`, `label=key[=value]`, `ancestor=`, as `docker ps`. @throws {Fault} `invalid-argument` */
function parseFilter(text: string): Filter {
  const at = text.indexOf('=')
  const [key, value] = at < 1 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
  switch (value === '' ? '' : key) {
    case 'name':
      return ({ id }) => id.includes(value)
    case 'id':
      return ({ id }) => id.startsWith(value)
    case 'ancestor':
      return ({ image }) => image === value || image === normalizeReference(value).text
    case 'label': {
      const [name = '', ...rest] = value.split('=')
      return ({ labels }) => labels[name] !== undefined && (rest.length === 0 || labels[name] === rest.join('='))
    }
    case 'status':
      if (STATUSES.includes(value)) return (_container, status) => status === value
      break
    default:
  }
  throw new Fault(
    'invalid-argument',
    `Cannot filter by ${JSON.stringify(text)}: give name=, id=, ancestor=, label=key[=value] or status=${STATUSES.join('|')}`,
  )
}

/** Of the same key one is enough, of different keys each must pass. */
export function passes(filters: readonly string[]): Filter {
  const byKey = Map.groupBy(filters, (text) => text.slice(0, text.indexOf('=')))
  const groups = Array.from(byKey.values(), (texts) => texts.map(parseFilter))
  return (container, status) => groups.every((group) => group.some((filter) => filter(container, status)))
}
