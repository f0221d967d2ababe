/** A process for the tests of `startProcess`: what it does is its first argument. */
import { Fault } from '@gantry/model/fault'
import { startProcess, stopped } from './process.ts'

const [what = '', ...argv] = process.argv.slice(2)
const { log, stop } = await startProcess('test', argv)
if (what === 'fault') throw new Fault('failed-precondition', 'Cannot do it: it is broken')
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
