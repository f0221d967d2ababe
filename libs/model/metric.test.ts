import { expect, test } from 'vitest'
import { createMetrics } from './metric.ts'

test('counters, gauges and histograms as Prometheus reads them', () => {
  const metrics = createMetrics()
  const calls = metrics.counter({ name: 'calls_total', help: 'Calls.', labels: ['method', 'code'] })
  const took = metrics.histogram({ name: 'took_seconds', help: 'How long.', bounds: [0.1, 1] })()
  metrics.read('gauge', { name: 'waiting', help: 'Waiting.', labels: ['who'] }, () => [{ labels: ['a'], value: 2 }])
  metrics.read('gauge', { name: 'size_bytes', help: 'Size.' }, () => 1.5)

  calls('Get', 'OK').add()
  calls('Get', 'OK').add(2)
  calls('Get', 'NOT_FOUND').add()
  for (const seconds of [0.1, 0.2, 5]) took.observe(seconds)

  expect(metrics.render()).toBe(`# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{method="Get",code="OK"} 3
calls_total{method="Get",code="NOT_FOUND"} 1
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_bucket{le="0.1"} 1
took_seconds_bucket{le="1"} 2
took_seconds_bucket{le="+Inf"} 3
took_seconds_sum 5.3
took_seconds_count 3
# HELP waiting Waiting.
# TYPE waiting gauge
waiting{who="a"} 2
# HELP size_bytes Size.
# TYPE size_bytes gauge
size_bytes 1.5
`)
})

test('a metric without a value is named all the same', () => {
  const metrics = createMetrics()
  metrics.counter({ name: 'errors_total', help: 'Errors.', labels: ['code'] })

  expect(metrics.render()).toBe('# HELP errors_total Errors.\n# TYPE errors_total counter\n')
})

test('what a label holds cannot end it', () => {
  const metrics = createMetrics()
  metrics
    .counter({ name: 'a', help: 'A.', labels: ['b'] })('"\n\\')
    .add()

  expect(metrics.render()).toContain('a{b="\\"\\n\\\\"} 1\n')
})

test('a name can be taken once', () => {
  const metrics = createMetrics()
  metrics.counter({ name: 'a', help: 'A.' })

  expect(() => metrics.counter({ name: 'a', help: 'B.' })).toThrow('There is a metric "a" already')
})
