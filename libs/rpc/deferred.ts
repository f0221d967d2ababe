/** The methods that answer with a stream; all others answer once. */
type Streams<T> = {
  readonly [K in keyof T as T[K] extends (...args: never[]) => AsyncIterable<unknown> ? K : never]: true
}

type Calls<T> = { readonly [K in keyof T]: (...args: never[]) => Promise<unknown> | AsyncIterable<unknown> }

/**
 * Calls whose code is loaded when the first of them is made: descriptors of services take a program longer to read than all
 * it does with them, so that it should read only those it needs.
 *
 * @param streams names the methods that answer with a stream, as nothing else can tell before they are loaded
 */
export function deferred<T extends Calls<T>>(load: () => Promise<T>, streams: Streams<T>): T {
  let loading: Promise<Record<string, (...args: unknown[]) => unknown>> | undefined
  const method = async (name: string) => {
    loading ??= load() as Promise<never>
    const calls = await loading
    return calls[name]?.bind(calls) ?? unknown(name)
  }
  const once =
    (name: string) =>
    async (...args: unknown[]) =>
      (await method(name))(...args)
  const stream = (name: string) =>
    async function* (...args: unknown[]) {
      yield* (await method(name))(...args) as AsyncIterable<unknown>
    }
  return new Proxy({} as T, {
    get(_target, name) {
      if (typeof name !== 'string' || name === 'then') return undefined // it is no promise
      return name in streams ? stream(name) : once(name)
    },
  })
}

function unknown(name: string): never {
  throw new TypeError(`There is no call "${name}"`)
}
