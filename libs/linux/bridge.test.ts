import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const bridge = fileURLToPath(new URL('./bridge.ts', import.meta.url))

test('a bridge is made once, and its IPv6 address is used at once', () => {
  const make = (name: string) => [
    process.execPath,
    '-e',
    `import('${bridge}').then((it) => it.ensureBridge('${name}'))`,
  ]
  const script = [
    ...['"$@"', '"$@"', 'ip link set gt0 up', 'ip link add gt1 type veth peer name gt2', 'ip link set gt1 master gt0'],
    ...['ip link set gt1 up', 'ip link set gt2 up', 'ip addr add fd98::1/64 dev gt0', 'ip -6 addr show dev gt0'],
  ].join(' && ')
  const shown = execFileSync('unshare', ['--net', 'sh', '-c', script, 'sh', ...make('gt0')], { encoding: 'utf8' })
  expect(shown).toContain('fd98::1/64')
  expect(shown).not.toContain('tentative')

  const wrong = () => execFileSync('unshare', ['--net', ...make('a/b')], { encoding: 'utf8', stdio: 'pipe' })
  expect(wrong).toThrow('EINVAL')
})
