import { expect, test } from 'vitest'
import { parseChanges } from './parse-change.ts'

test.each([
  ['CMD ["sh", "-c", "x"]', { cmd: ['sh', '-c', 'x'] }],
  ['cmd echo "a b"', { cmd: ['/bin/sh', '-c', 'echo "a b"'] }],
  ['ENTRYPOINT []', { entrypoint: [] }],
  ['ENV A=b C="d e" F=\'g "h\' I=j\\ k', { env: ['A=b', 'C=d e', 'F=g "h', 'I=j k'] }],
  ['ENV A  b c', { env: ['A=b c'] }],
  ['ENV PATH=/new:$PATH', undefined],
  ['LABEL a="$B"', undefined],
  ['ENV A=\\$B C=\'$D\' E="\\$F" G=1$', { env: ['A=$B', 'C=$D', 'E=$F', 'G=1$'] }],
  ['CMD echo $HOME', { cmd: ['/bin/sh', '-c', 'echo $HOME'] }],
  ['ENV A= B=""', { env: ['A=', 'B='] }],
  ['LABEL a.b=c "d', undefined],
  ['LABEL a.b=c d="x=\\"y\\""', { labels: { 'a.b': 'c', d: 'x="y"' } }],
  ['WORKDIR /a b', { workingDir: '/a b' }],
  ['WORKDIR a', undefined],
  ['USER 1:2', { user: '1:2' }],
  ['EXPOSE 80 53/udp', { exposedPorts: ['80/tcp', '53/udp'] }],
  ['EXPOSE 65536', undefined],
  ['CMD [1]', undefined],
  ['CMD ["a"', undefined],
  ['RUN rm -rf /', undefined],
  ['CMD', undefined],
  ['', undefined],
])('%j', (text, expected) => {
  if (expected) expect(parseChanges([text])).toEqual(expected)
  else expect(() => parseChanges([text])).toThrow('Cannot change ')
})

test('the later instruction counts; entries, labels and ports come together', () => {
  const changes = parseChanges([
    'USER a',
    'ENV A=1',
    'LABEL a=1',
    'EXPOSE 1',
    'ENV B=2',
    'LABEL b=2',
    'EXPOSE 2',
    'USER b',
  ])

  expect(changes).toEqual({
    user: 'b',
    env: ['A=1', 'B=2'],
    labels: { a: '1', b: '2' },
    exposedPorts: ['1/tcp', '2/tcp'],
  })
})
