import { existsSync } from 'node:fs'
import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { globalsOf } from '../globals.ts'
import { openKeyring } from '../keyring.ts'
import { askRegistries, contentSocket } from '../registry/explain.ts'
import { hostOf } from '../registry/host.ts'
import { askPassword, readPassword } from '../registry/password.ts'
import { printable } from '../text.ts'

const FROM = 'this login'
const CHECK_MS = 60_000

interface LoginWish {
  readonly username: string
  readonly passwordStdin?: boolean
  readonly plainHttp?: boolean
}

/** `gantry login`: asks the registry whether it likes the credentials, then keeps them where Docker does. */
export function createCommand(context: Context): Command {
  return new Command('login')
    .description("Keeps credentials for a registry, in a credential helper or in Docker's config.json.")
    .argument('[host]', 'of the registry', 'docker.io')
    .requiredOption('-u, --username <name>', 'who you are there')
    .option('--password-stdin', 'read the password from the input (default: ask on the terminal)')
    .option('--plain-http', 'speak HTTP to the registry, without TLS')
    .action(async (text: string, wish: LoginWish, command: Command) => {
      const host = hostOf(text)
      const { username } = wish
      const secret = wish.passwordStdin ? await readPassword(context.stdin) : await askPassword(context)
      const { address } = globalsOf(command, context)
      const signal = AbortSignal.timeout(CHECK_MS)
      const checked = existsSync(contentSocket(address))
      if (checked) await check({ host, address, plainHttp: wish.plainHttp, username, secret }, signal)
      else context.stderr.write('gantry: the credentials are not checked, because the node does not run\n')
      const where = await openKeyring(context).store(host, { username, secret }, signal)
      context.stdout.write(`Logged in to ${host} as ${printable(username)}: kept in ${printable(where)}\n`)
    })
}

/** The endpoint that wanted the credentials decides; when none wanted any, the registry itself. */
async function check(
  login: { host: string; address: string; plainHttp: boolean | undefined; username: string; secret: string },
  signal: AbortSignal,
): Promise<void> {
  const { host: reference, address, plainHttp, username, secret } = login
  const credentials = { username, secret, from: FROM }
  const endpoints = await askRegistries(address, { reference, plainHttp, credentials }, signal)
  const judge = endpoints.find((endpoint) => endpoint.credentials === FROM) ?? endpoints.at(-1)
  if (!judge?.works)
    throw new Fault('unauthenticated', judge?.answer ?? `Cannot log in to ${reference}: nobody answers`)
}
