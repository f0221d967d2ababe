import { expect, test } from 'vitest'
import { fitProcess, fitSpec, type HostLimits, readHostLimits } from './spec.ts'

const LIMITS: HostLimits = { unbounded: false, oomScoreAdj: 0, hard: new Map([['RLIMIT_NOFILE', 1024n]]) }

test('a specification that the host can give is passed on byte for byte', () => {
  const text =
    '{ "process": {"rlimits": [{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}]},\n "x": 18446744073709551615 }'

  expect(fitSpec(Buffer.from(text), LIMITS)).toEqual({ text, changes: [] })
})

test('what the host cannot give is lowered and told', () => {
  const process = '{"oomScoreAdj":-999,"rlimits":[{"type":"RLIMIT_NOFILE","hard":18446744073709551615,"soft":5000}]}'

  const fitted = fitSpec(Buffer.from(`{"process":${process},"big":18446744073709551615}`), LIMITS)

  expect(fitted.text).toBe(
    '{"process":{"oomScoreAdj":0,"rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}]},"big":18446744073709551615}',
  )
  expect(fitted.changes).toEqual(['oomScoreAdj -999 became 0', 'RLIMIT_NOFILE 18446744073709551615 became 1024'])
})

test('with the right to raise limits nothing is changed', () => {
  const text = '{"oomScoreAdj":-999}'

  expect(fitProcess(text, { ...LIMITS, unbounded: true }).text).toBe(text)
  expect(fitProcess(text, LIMITS).text).toBe('{"oomScoreAdj":0}')
})

test.each(['', 'nope', '[]', 'null', '1'])('%j is no process', (text) => {
  expect(() => fitProcess(text, LIMITS)).toThrow('Cannot read the process')
})

test('the limits of this host are read', () => {
  const limits = readHostLimits()

  expect(limits.hard.size).toBe(16)
  expect(limits.hard.get('RLIMIT_NOFILE')).toBeGreaterThan(0n)
})
