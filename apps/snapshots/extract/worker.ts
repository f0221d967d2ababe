/**
 * The thread that works in other people's trees. Everything it needs is loaded before its first jail: inside one, a module
 * would be looked for in the layer.
 */
import { type MessagePort, parentPort } from 'node:worker_threads'
import { syncfs } from '@gantry/linux/file'
import { enterJail } from '@gantry/linux/jail'
import { isSystemError } from '@gantry/linux/system'
import { Fault, type FaultCode } from '@gantry/model/fault'
import { standsAlone } from '../diff/changes.ts'
import { pack } from '../diff/pack.ts'
import { copyTree } from '../drivers/copy.ts'
import { carryOut } from '../mounts/carry-out.ts'
import { mountIn } from '../mounts/mount-in.ts'
import { applyLayer, type Hooks, openAll, openFolders, openOutput } from './apply-layer.ts'
import type { Job, Message, Order, Reply, Results } from './job.ts'
import { settle } from './loose.ts'
import { emptyRoot, usageOfRoot } from './tree.ts'

if (parentPort) serve(parentPort)

/** Does one order after the other; the pool sends the next one only after the reply. */
function serve(port: MessagePort): void {
  port.on('message', (order: Order) => {
    const tell = (message: Message): void => port.postMessage(message)
    void answer(order, (waits) => tell({ waits })).then(tell)
  })
}

async function answer({ job, cancelled }: Order, rest: Hooks['rest']): Promise<Reply> {
  const check = (): void => {
    if (Atomics.load(cancelled, 0) !== 0) throw new Fault('cancelled', 'The call was cancelled')
  }
  let reusable = false
  try {
    const result = await run(job, { check, rest }, () => {
      reusable = true
    })
    return { reusable, result }
  } catch (error) {
    if (error instanceof Fault) return { reusable, fault: { code: error.code, message: error.message } }
    if (isSystemError(error)) return { reusable, fault: { code: codeOf(error.code), message: error.message } }
    return { reusable, crash: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
}

/** A folder that cannot be worked in is the caller's affair: mounts may name any. */
function codeOf(code: string): FaultCode {
  return code === 'ENOSPC' || code === 'EDQUOT' ? 'resource-exhausted' : 'failed-precondition'
}

/** @param left is called when the thread is out of the jail again, or was never in it */
async function run(job: Job, hooks: Hooks, left: () => void): Promise<Results[keyof Results]> {
  if (job.kind === 'mount' || job.kind === 'activate') {
    left()
    if (job.kind === 'activate') return carryOut(job.folder, job.mount, job.active)
    for (const each of job.mounts) mountIn(job.root, each)
    return undefined
  }
  using opened = job.kind === 'apply' ? openAll(job) : undefined
  using outside = openFolders(
    job.kind === 'sync' || job.kind === 'copy' ? [job.root] : job.kind === 'settle' ? job.lowers : [],
  )
  if (job.kind === 'sync') {
    for (const folder of outside.folders) syncfs(folder)
    left()
    return undefined
  }
  using output = job.kind === 'pack' ? openOutput(job.output) : undefined
  const jail = enterJail(job.root)
  try {
    if (job.kind === 'pack') return output && pack({ ...job, output: output.fd }, hooks.check)
    if (job.kind === 'look') return standsAlone(job.marks)
    if (job.kind === 'apply') return opened && (await applyLayer(job, opened, hooks))
    if (job.kind === 'usage') return usageOfRoot(hooks.check)
    if (job.kind === 'settle') settle(job.loose, outside.folders)
    else if (job.kind === 'copy') {
      copyTree(job.from, job.to, hooks.check)
      for (const folder of outside.folders) syncfs(folder)
    } else emptyRoot()
    return undefined
  } finally {
    jail[Symbol.dispose]()
    left() // not reached when the way out failed: the thread is then given up
  }
}
