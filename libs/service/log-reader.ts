import type { LoggedEvent, LogStart } from './bus.ts'
import type { Link } from './link.ts'

export async function* readLog(
  _link: Link,
  _options: { from: LogStart; signal: AbortSignal },
): AsyncGenerator<LoggedEvent> {}
