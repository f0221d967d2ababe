/**
 * Numbers that say what a process does, and the text in which Prometheus reads them. Counting is an addition and nothing
 * else; what can be looked up is looked up when somebody reads.
 *
 * @see https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md
 */

/** Upper bounds in seconds, for what takes a millisecond to a minute. */
export const SECONDS: readonly number[] = [
  ...[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
]

/** What a metric is called, and the names of its labels. */
export interface Definition {
  readonly name: string
  /** One sentence, with the unit where the name does not say it. */
  readonly help: string
  readonly labels?: readonly string[]
}

/** Only ever grows. */
export interface Counter {
  add(n?: number): void
}

export interface Histogram {
  observe(value: number): void
}

/** A value that was read, with the values of its labels in their order. */
export interface Reading {
  readonly labels?: readonly string[]
  readonly value: number
}

/** The metrics of one process. A name can be taken once. */
export interface Metrics {
  /** The counter of some values of the labels; take it once and keep it. */
  counter(definition: Definition): (...labels: string[]) => Counter
  /** @param definition.bounds upper bounds of its buckets, growing */
  histogram(definition: Definition & { readonly bounds: readonly number[] }): (...labels: string[]) => Histogram
  /** Values that are there anyway: asked for when somebody reads the metrics. */
  read(kind: 'counter' | 'gauge', definition: Definition, readings: () => number | Iterable<Reading>): void
  /** All of them as text, those without a value too. */
  render(): string
}

export function createMetrics(): Metrics {
  const all = new Map<string, () => string>()

  function register(kind: string, { name, help }: Definition, samples: () => Iterable<string>): void {
    if (all.has(name)) throw new Error(`There is a metric "${name}" already`)
    const head = `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n`
    all.set(name, () => head + [...samples()].map((sample) => `${sample}\n`).join(''))
  }

  return {
    counter(definition) {
      const series = createSeries(createCounter)
      register('counter', definition, () =>
        series.map((labels, { read }) => sampleOf(definition, { labels, value: read() })),
      )
      return series.of
    },
    histogram(definition) {
      const series = createSeries(() => createHistogram(definition.bounds))
      register('histogram', definition, () => series.map((labels, { read }) => bucketsOf(definition, labels, read())))
      return series.of
    },
    read(kind, definition, readings) {
      register(kind, definition, () => {
        const found = readings()
        const list = typeof found === 'number' ? [{ value: found }] : [...found]
        return list.map((reading) => sampleOf(definition, reading))
      })
    },
    render: () => [...all.values()].map((text) => text()).join(''),
  }
}

/** One thing for each combination of label values. */
function createSeries<T>(make: () => T) {
  const members = new Map<string, { readonly labels: readonly string[]; readonly member: T }>()
  return {
    of(...labels: string[]): T {
      const key = labels.join('\0')
      const known = members.get(key) ?? { labels, member: make() }
      members.set(key, known)
      return known.member
    },
    map: (each: (labels: readonly string[], member: T) => string): string[] =>
      Array.from(members.values(), ({ labels, member }) => each(labels, member)),
  }
}

function createCounter(): Counter & { read(): number } {
  let total = 0
  return {
    add(n = 1) {
      total += n
    },
    read: () => total,
  }
}

interface Buckets {
  readonly counts: readonly number[]
  readonly sum: number
}

function createHistogram(bounds: readonly number[]): Histogram & { read(): Buckets } {
  const counts = new Array<number>(bounds.length + 1).fill(0)
  let sum = 0
  return {
    observe(value) {
      let at = 0
      while (at < bounds.length && value > (bounds[at] ?? 0)) at++
      counts[at] = (counts[at] ?? 0) + 1
      sum += value
    },
    read: () => ({ counts, sum }),
  }
}

function sampleOf({ name, labels: names = [] }: Definition, { labels = [], value }: Reading): string {
  return `${name}${labelsOf(names, labels)} ${numberOf(value)}`
}

/** A bucket counts all that is not above its bound, so each holds the ones before. */
function bucketsOf(
  { name, labels: names = [], bounds }: Definition & { readonly bounds: readonly number[] },
  labels: readonly string[],
  { counts, sum }: Buckets,
): string {
  let total = 0
  const lines = counts.map((count, at) => {
    total += count
    const bound = numberOf(bounds[at] ?? Number.POSITIVE_INFINITY)
    return `${name}_bucket${labelsOf([...names, 'le'], [...labels, bound])} ${total}`
  })
  const own = labelsOf(names, labels)
  return [...lines, `${name}_sum${own} ${numberOf(sum)}`, `${name}_count${own} ${total}`].join('\n')
}

function labelsOf(names: readonly string[], values: readonly string[]): string {
  if (names.length === 0) return ''
  return `{${names.map((name, at) => `${name}="${escaped(values[at] ?? '')}"`).join(',')}}`
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function numberOf(value: number): string {
  return Number.isFinite(value) ? String(value) : value > 0 ? '+Inf' : value < 0 ? '-Inf' : 'NaN'
}
