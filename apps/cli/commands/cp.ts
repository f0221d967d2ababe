import type { InContainer, OnHost } from '@gantry/client/copy'
import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { openSession, printJson, refuseRemote, type Session } from '../session.ts'
import { printable } from '../text.ts'

/** `gantry cp`: files into a container, and out of it. */
export function createCommand(context: Context): Command {
  return new Command('cp')
    .description(
      'Copies files between a container and this host, as docker cp: container:path is one side, a path the other, - is a tar ' +
        'on standard input or output. On the node, as root.',
    )
    .argument('<from>', 'path/. is what is in a folder')
    .argument('<to>', 'a folder to copy into, or what the copy is to be called')
    .option('-a, --archive', 'keep user and group by number, and set-user-ID bits')
    .option('-L, --follow-link', 'copy what a link leads to when it is what is to be copied')
    .action(
      async (from: string, to: string, options: { archive?: boolean; followLink?: boolean }, command: Command) => {
        const sides = [parseSide(from), parseSide(to)] as const
        await using session = openSession(command, context)
        refuseRemote(session, 'files of a container')
        const { archive = false, followLink: follow = false } = options
        const copied = await session.client.containers.copy(
          {
            from: from === '-' ? { archive: inputOf(session) } : await named(session, sides[0]),
            to: to === '-' ? { archive: outputOf(session) } : await named(session, sides[1]),
            ...{ archive, follow, onSkip: (path, why) => warn(session, path, why) },
          },
          session.signal,
        )
        if (session.json && to !== '-') printJson(session, copied)
      },
    )
}

/** A path that begins with `/` or `.` is one of this host, whatever colons are in it. */
export function parseSide(text: string): InContainer | OnHost {
  const [, container, path = ''] = /^([^/.:][^:]*):(.*)$/s.exec(text) ?? []
  return container === undefined ? { path: text } : { container, path }
}

async function named({ client, signal }: Session, side: InContainer | OnHost): Promise<InContainer | OnHost> {
  if (!('container' in side)) return side
  return { ...side, container: (await findContainer(client, side.container, signal)).id }
}

function inputOf({ stdin }: Session): AsyncIterable<Uint8Array> {
  if (!stdin.isTTY) return stdin
  throw new Fault('invalid-argument', 'Cannot read an archive: standard input is a terminal')
}

function outputOf({ stdout }: Session): NodeJS.WriteStream {
  if (!stdout.isTTY) return stdout
  throw new Fault('invalid-argument', 'Cannot write an archive: standard output is a terminal')
}

function warn({ stderr }: Session, path: string, why: string): void {
  stderr.write(`gantry: ${printable(path)} is left out: ${why}\n`)
}
