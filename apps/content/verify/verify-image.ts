import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Descriptor } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import type { Log } from '@gantry/rpc/log'
import { runVerifier, type Verdict } from './run-verifier.ts'

const MAX_REASON = 1024 // characters of a reason that travel to the client, in the trailers of its call

/**
 * Asks the image verifiers whether `target` may be used as `name`: before anything of it is fetched, and before an image
 * record is written. Resolves when none objects.
 *
 * @param name the full reference, as the user gave it
 * @throws {Fault} `unknown`, as containerd answers, with the verifier's reason; also when a verifier cannot be run, is
 * killed or takes too long: who cannot be asked has not agreed
 */
export type VerifyImage = (name: string, target: Descriptor, signal: AbortSignal) => Promise<void>

export interface VerifyParts {
  /** Every file in this folder is a verifier; without the folder all images are fine. */
  readonly dir: string
  /** Only the first ones by name are asked; below 0 all. */
  readonly maxVerifiers: number
  readonly timeoutMs: number
  /** All that a verifier sees of our environment. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Log
}

/**
 * containerd's `bindir` contract: each file of a folder is run as
 *
 *   <dir>/<file> -name <reference> -digest <digest> -stdin-media-type application/vnd.oci.descriptor.v1+json
 *
 * with the descriptor as JSON on its input. Exit code 0 agrees, any other objects with what it prints as the reason.
 *
 * @see https://github.com/containerd/containerd/blob/main/docs/image-verification.md
 */
export function createVerifyImage({ dir, maxVerifiers, timeoutMs, env, log }: VerifyParts): VerifyImage {
  return async (name, target, signal) => {
    const files = await listFiles(dir)
    const asked = maxVerifiers < 0 ? files : files.slice(0, maxVerifiers)
    if (asked.length < files.length)
      log.error({ dir, files: files.length, maxVerifiers }, 'Some image verifiers are not asked: there are too many')
    for (const file of asked) {
      const args = ['-name', name, '-digest', target.digest, '-stdin-media-type', DESCRIPTOR_TYPE]
      const input = `${JSON.stringify(toJson(target))}\n`
      const verdict = await runVerifier({ path: join(dir, file), args, input, timeoutMs, env }, signal)
      for (const line of verdict.errors.split('\n').filter(Boolean)) log.debug({ verifier: file }, line)
      const objection = objectionOf(verdict, timeoutMs)
      if (objection === undefined) continue
      throw new Fault('unknown', `Cannot use ${name} (${target.digest}): the image verifier "${file}" ${objection}`)
    }
  }
}

const DESCRIPTOR_TYPE = 'application/vnd.oci.descriptor.v1+json'

/** Sorted by name. A folder that is there and cannot be read is no permission. */
async function listFiles(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir)).sort()
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return []
    throw new Fault('unknown', `Cannot ask the image verifiers: "${dir}" cannot be read`, { cause })
  }
}

/** What stands against the image, undefined when nothing does. */
function objectionOf(verdict: Verdict, timeoutMs: number): string | undefined {
  switch (verdict.end) {
    case 'failed':
      return `cannot be run: ${verdict.why}`
    case 'timeout':
      return `gave no answer within ${timeoutMs / 1000} s`
    case 'killed':
      return `was killed by ${verdict.signal}`
    case 'exit':
      return verdict.code === 0 ? undefined : `rejects it (exit code ${verdict.code}): ${reasonOf(verdict.output)}`
  }
}

/** What a verifier printed, short and in one line. */
function reasonOf(output: string): string {
  const line = output.replace(/[\p{Cc}\s]+/gu, ' ').trim()
  if (line === '') return 'it gives no reason'
  return line.length > MAX_REASON ? `${line.slice(0, MAX_REASON)}…` : line
}

/** The descriptor as OCI spells it. What was resolved has no platform yet. */
function toJson({ mediaType, digest, size, annotations, artifactType, urls }: Descriptor) {
  return { mediaType, digest, size: Number(size), urls, annotations, artifactType }
}
