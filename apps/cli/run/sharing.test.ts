import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import { Command } from 'commander'
import { expect, test, vi } from 'vitest'
import { addRunOptions, type RunOptions, specOf } from './options.ts'
import { joinAnew, sharedNamespaces, sharesLabel } from './sharing.ts'

const never = new AbortController().signal
const client = {
  namespace: 'default',
  containers: {
    list: async () => [{ id: 'first' }, { id: 'ended' }],
    get: async (id: string) => ({ id }),
    update: vi.fn(),
  },
  tasks: {
    list: async () => [
      { containerId: 'first', status: 'running', pid: 42 },
      { containerId: 'ended', status: 'stopped', pid: 43 },
    ],
  },
} as unknown as GantryClient

function parse(...argv: string[]): RunOptions {
  const command = addRunOptions(new Command('run')).argument('<image>').exitOverride()
  return command.parse([...argv, 'x'], { from: 'user' }).opts<RunOptions>()
}

test('namespaces of another container are those of its first process', async () => {
  const options = parse('--net', 'container:first', '--ipc', 'container:first', '--pid', 'host')

  expect(specOf(options, { id: 'box', args: [] }, {})).toMatchObject({ pid: 'host' })
  expect(specOf(options, { id: 'box', args: [] }, {})).not.toHaveProperty('network')
  expect(await sharedNamespaces(client, options, never)).toEqual({
    network: { path: '/proc/42/ns/net' },
    ipc: { path: '/proc/42/ns/ipc' },
  })
  expect(await sharedNamespaces(client, parse('--net', 'host'), never)).toEqual({})
})

test('a container that has ended shares nothing, and a policy would share with anybody', async () => {
  await expect(sharedNamespaces(client, parse('--pid', 'container:ended'), never)).rejects.toThrow('it is not running')
  const options = parse('-d', '--restart', 'always', '--net', 'container:first')
  await expect(sharedNamespaces(client, options, never)).rejects.toThrow('Cannot use --restart with namespaces')
})

test('what is shared is found anew at each start: another process may have the pid of the one that was', async () => {
  const boxOf = (...argv: string[]) => ({ id: 'box', labels: sharesLabel(parse(...argv)) }) as unknown as Container

  await joinAnew(client, boxOf('--net', 'container:first', '--ipc', 'host'), never)
  await joinAnew(client, boxOf('--net', 'host'), never)

  expect(client.containers.update).toHaveBeenCalledOnce()
  expect(client.containers.update).toHaveBeenCalledWith('box', { joins: { network: '/proc/42/ns/net' } }, never)
  await expect(joinAnew(client, boxOf('--pid', 'container:ended'), never)).rejects.toThrow('it is not running')
})
