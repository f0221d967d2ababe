/** Listens with `ctr events`, from the moment the first event is known to arrive. */
import { startDaemon, until } from './daemon.ts'
import type { Target } from './target.ts'

interface Seen {
  readonly namespace: string
  readonly topic: string
  readonly event: Readonly<Record<string, unknown>>
}

export interface Subscriber extends AsyncDisposable {
  /** what arrived so far, without the marks `listen` made itself */
  seen(): readonly Seen[]
  topics(): readonly string[]
  /** Waits until an event of this topic about this container arrived. */
  waitFor(topic: string, containerId: string): Promise<void>
  running(): boolean
}

/**
 * A server sends nothing before the first event, so a mark (a namespace) is made until one of them is seen.
 * @param filters those of `ctr events`; one of them has to let `/namespaces/create` through
 */
export async function listen(target: Target, filters: readonly string[] = []): Promise<Subscriber> {
  const mark = `${target.namespace}mark`
  const daemon = startDaemon(['ctr', '-a', target.address, 'events', ...filters])
  const all = () =>
    daemon
      .log()
      .split('\n')
      .map(parse)
      .filter((event) => event !== undefined)
  await until('events arrive', async () => {
    await target.ctr(['namespaces', 'create', mark])
    await target.ctr(['namespaces', 'rm', mark])
    return all().length > 0
  })
  const seen = () => all().filter(({ namespace, event }) => namespace !== mark && event.name !== mark)
  return {
    seen,
    topics: () => seen().map(({ topic }) => topic),
    waitFor: (topic, id) =>
      until(`${topic} of ${id}`, () => seen().some((event) => event.topic === topic && containerOf(event) === id), {
        context: () => daemon.log(),
      }),
    running: daemon.running,
    async [Symbol.asyncDispose]() {
      await daemon.stop('SIGKILL')
    },
  }
}

function containerOf({ event }: Seen): unknown {
  return event.container_id ?? event.id ?? event.key
}

/** `2026-01-31 09:00:00.1 +0000 UTC NAMESPACE /topic {"json":1}` */
function parse(line: string): Seen | undefined {
  const match = /^\S+ \S+ \S+ \S+ (\S*) (\/\S+) (\{.*)$/.exec(line)
  if (!match) return undefined
  return {
    namespace: match[1] ?? '',
    topic: match[2] ?? '',
    event: JSON.parse(match[3] ?? '{}') as Record<string, unknown>,
  }
}
