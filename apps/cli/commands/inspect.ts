import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import { Fault, ignoring } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { imageName } from '../image-name.ts'
import { openSession, toJsonText } from '../session.ts'
import { toJson } from './ps.ts'

/** `gantry inspect`: all that is known of containers and images. */
export function createCommand(context: Context): Command {
  return new Command('inspect')
    .description('Prints all that is known of containers or images, as a list in JSON.')
    .argument('<name...>')
    .action(async (names: string[], _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal, stdout } = session
      const found: unknown[] = []
      await each(names, session, async (name) => {
        // an image goes before a container whose id only begins so
        const container = await ignoring('invalid-argument', ignoring('not-found', findContainer(client, name, signal)))
        const image = container?.id === name ? undefined : await imageOf(client, name, signal)
        if (image) found.push(image)
        else if (container) found.push(await show(client, container, signal))
        else throw new Fault('not-found', `Cannot find "${name}": neither a container nor an image is called so`)
      })
      stdout.write(`${toJsonText(found, session.json ? 0 : 2)}\n`)
    })
}

async function show(client: GantryClient, container: Container, signal: AbortSignal): Promise<object> {
  const task = (await client.tasks.list(signal)).find(({ containerId }) => containerId === container.id)
  const { updatedAt, snapshotKey, sandbox, spec } = container
  return { ...toJson({ container, task }), updatedAt, snapshotKey, sandbox, spec }
}

async function imageOf(client: GantryClient, name: string, signal: AbortSignal): Promise<object | undefined> {
  const full = await imageName(client, name, signal)
  const found = await ignoring('not-found', client.images.get(full, signal))
  if (!found) return undefined
  const { target, labels, createdAt, updatedAt } = found
  const { manifest, configDigest, config, chainId, size } = await client.images.resolve(full, {}, signal)
  return { name: full, target, labels, createdAt, updatedAt, manifest, configDigest, ...config, chainId, size }
}
