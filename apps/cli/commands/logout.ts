import { Command } from 'commander'
import type { Context } from '../context.ts'
import { openKeyring } from '../keyring.ts'
import { hostOf } from '../registry/host.ts'
import { printable } from '../text.ts'

const HELPER_MS = 60_000

/** `gantry logout`: forgets credentials, wherever they are kept. */
export function createCommand(context: Context): Command {
  return new Command('logout')
    .description('Forgets the credentials for a registry.')
    .argument('[host]', 'of the registry', 'docker.io')
    .action(async (text: string) => {
      const host = hostOf(text)
      const where = await openKeyring(context).erase(host, AbortSignal.timeout(HELPER_MS))
      const said = where === undefined ? `Not logged in to ${host}` : `Logged out of ${host}: no longer in ${where}`
      context.stdout.write(`${printable(said)}\n`)
    })
}
