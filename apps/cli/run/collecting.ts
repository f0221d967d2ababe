import { InvalidArgumentError } from 'commander'

/** For an option that may be given several times. */
export function collect(value: string, previous: readonly string[]): string[] {
  return [...previous, value]
}

/** The same, each value read by `parse`. */
export function collecting<T>(parse: (text: string) => T): (value: string, previous: readonly T[]) => T[] {
  const checked = parsing(parse)
  return (value, previous) => [...previous, checked(value)]
}

/** A value that cannot be read is a mistake in the command line. */
export function parsing<T>(parse: (text: string) => T): (value: string) => T {
  return (value) => {
    try {
      return parse(value)
    } catch (error) {
      throw new InvalidArgumentError(error instanceof Error ? error.message : String(error))
    }
  }
}
