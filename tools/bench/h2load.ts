import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '@gantry/e2e/harness/command'

/** One measurement by h2load, a native client of nghttp2 that speaks to unix sockets. */
export interface Load {
  /** `/service/method` */
  readonly path: string
  readonly namespace: string
  /** The message of each call, or several, one after the other. */
  readonly messages: readonly Uint8Array[]
  readonly callers: number
  /** Calls altogether. */
  readonly calls: number
}

export interface Measured {
  readonly callsPerSecond: number
  readonly seconds: number
}

/** @throws when a call did not end well */
export async function h2load(address: string, { path, namespace, messages, callers, calls }: Load): Promise<Measured> {
  const folder = mkdtempSync(join(tmpdir(), 'gh-'))
  try {
    const body = join(folder, 'body')
    writeFileSync(body, Buffer.concat(messages.flatMap((message) => [headOf(message), message])))
    const headers = ['content-type: application/grpc', 'te: trailers', `containerd-namespace: ${namespace}`]
    const { stdout, stderr } = await run(
      [
        ...['h2load', `--base-uri=unix:${address}`, '-n', `${calls}`, '-c', '1', '-m', `${callers}`, '-t', '1'],
        ...['-w', '24', '-W', '27', '-d', body, ...headers.flatMap((header) => ['-H', header])],
        `http://localhost${path}`,
      ],
      { timeoutMs: 120_000 },
    )
    const [, seconds, rate] = /finished in ([\d.]+(?:us|ms|s)), ([\d.]+) req\/s/.exec(stdout) ?? []
    if (!stdout.includes(`${calls} succeeded, 0 failed`) || seconds === undefined)
      throw new Error(`h2load of ${path} failed: ${stdout} ${stderr}`)
    return { callsPerSecond: Number(rate), seconds: secondsOf(seconds) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function headOf(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return head
}

function secondsOf(text: string): number {
  const scale = text.endsWith('us') ? 1e-6 : text.endsWith('ms') ? 1e-3 : 1
  return Number.parseFloat(text) * scale
}
