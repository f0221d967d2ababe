/** A process for the tests of `startProcess`: what it does is its first argument. */
import { setImmediate } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { inScope, scopeOf } from '@gantry/rpc/scope'
import { startProcess, stopped } from './process.ts'

const [what = '', ...argv] = process.argv.slice(2)
const { log, stop } = await startProcess('test', argv)
if (what === 'fault') throw new Fault('failed-precondition', 'Cannot do it: it is broken')
if (what === 'call') {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const headers: Readonly<Record<string, string>> = { 'gantry-request-id': 'r7', traceparent }
  await inScope(
    scopeOf((name) => headers[name]),
    async () => {
      await setImmediate()
      log.info('part of a call')
    },
  )
  log.info('part of none')
}
if (what === 'bug') void Promise.reject(new Error('a bug'))
if (what === 'run') {
  const alive = setInterval(() => {}, 1000)
  log.info('ready')
  await stopped(stop)
  clearInterval(alive)
  log.info('bye')
}
if (what === 'hang') {
  setInterval(() => {}, 1000)
  log.info('ready')
}
