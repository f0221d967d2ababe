import { once } from 'node:events'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { logFile } from '../run/detached-log.ts'
import { taskOf } from '../run/end-task.ts'
import { openSession, type Session } from '../session.ts'

const CHUNK = 256 * 1024 // bytes read at once
const LOOK_MS = 200 // between two looks at a file that may grow

/** `gantry logs`: what a container wrote that ran detached. */
export function createCommand(context: Context): Command {
  return new Command('logs')
    .description(
      'Shows what a container wrote that was made with --log-uri file:///... and ran detached, on this host.',
    )
    .argument('<container>')
    .option('-f, --follow', 'go on until it ends')
    .action(async (name: string, { follow = false }: { follow?: boolean }, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal, stdout, address } = session
      if (address.startsWith('tcp://'))
        throw new Fault('failed-precondition', 'Cannot show the output over TCP: its file is on the node, look there')
      const container = await findContainer(client, name, signal)
      const goesOn = async () => follow && (await isRunning(session, container.id))
      for await (const chunk of written(logFile(container), goesOn, signal))
        if (!stdout.write(chunk)) await once(stdout, 'drain', { signal })
    })
}

/** @param goesOn is asked before each look, so that nothing of what comes before its no is missed */
async function* written(file: string, goesOn: () => Promise<boolean>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Fault('not-found', `Cannot read the output: ${why}`, { cause })
  })
  if (!(await handle.stat()).isFile())
    throw new Fault('failed-precondition', `Cannot read the output: ${file} is no file`)
  for (;;) {
    const more = await goesOn()
    for (;;) {
      signal.throwIfAborted()
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(CHUNK), 0, CHUNK)
      if (bytesRead === 0) break
      yield buffer.subarray(0, bytesRead)
    }
    if (!more) return
    await sleep(LOOK_MS, undefined, { signal })
  }
}

async function isRunning({ client, signal }: Session, id: string): Promise<boolean> {
  const task = await taskOf(client, id, signal)
  return task !== undefined && (await task.status(signal)).status !== 'stopped'
}
