/**
 * Stands for a service in tests: serves health on its socket, says when it starts and stops, and refuses to start when
 * there is a file `<state>/refuse-<name>`. Its name is that of the folder it is linked into.
 */
import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { listen } from '@gantry/rpc/server'
import { statusBinding } from '@gantry/service/status-service'

const { values } = parseArgs({ options: { root: { type: 'string' }, state: { type: 'string' } } })
const name = basename(dirname(process.argv[1] ?? ''))
const state = values.state ?? ''
const say = (msg: string): void =>
  void process.stdout.write(`${JSON.stringify({ level: 30, time: Date.now(), msg })}\n`)

if (existsSync(join(state, `refuse-${name}`))) {
  process.stderr.write(`gantry-${name}: Cannot read the configuration: it is a test\n`)
  process.exit(1)
}
const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const address = join(state, `${name === 'gateway' ? 'gantry' : name}.sock`)
const status = statusBinding(name, { bus: { server: undefined }, eventsBehind: () => 0 })
await using _server = await listen({ address, bindings: [status], log })
say(`serving as ${process.pid}`)
await new Promise((resolve) => process.once('SIGTERM', resolve))
say('stopping')
