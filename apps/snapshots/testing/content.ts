import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Content, WriteAction, type WriteContentRequest } from '@gantry/api/containerd/services/content/v1/content_pb'
import { type Digest, sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { bind, unimplemented } from '@gantry/rpc/service'
import { playGrowing } from './growing.ts'

export interface PlayedBlob {
  readonly path: string
  readonly bytes: Buffer
  readonly labels: Readonly<Record<string, string>>
}

/** The part of content that Diff needs: whole blobs in a folder, uploads in memory. */
export function playContent(folder: string) {
  const labels = new Map<string, Record<string, string>>()
  const no = unimplemented('this')

  function blob(digest: string): PlayedBlob {
    const path = join(folder, digest.replace('sha256:', ''))
    if (!existsSync(path)) throw new Fault('not-found', `content ${digest}: not found`)
    return { path, bytes: readFileSync(path), labels: labels.get(digest) ?? {} }
  }

  function addBlob(bytes: Buffer): Digest {
    const digest = sha256Of(bytes)
    writeFileSync(join(folder, digest.replace('sha256:', '')), bytes)
    return digest
  }

  async function* write(requests: AsyncIterable<WriteContentRequest>) {
    const pieces: Buffer[] = []
    for await (const request of requests) {
      pieces.push(Buffer.from(request.data))
      if (request.action === WriteAction.WRITE) {
        yield { action: request.action }
        continue
      }
      const bytes = Buffer.concat(pieces)
      const reply = { action: request.action, offset: BigInt(bytes.length), digest: sha256Of(bytes) }
      if (request.action === WriteAction.COMMIT) {
        if (existsSync(join(folder, reply.digest.replace('sha256:', ''))))
          throw new Fault('already-exists', `content ${reply.digest}: already exists`)
        labels.set(addBlob(bytes), request.labels)
      }
      yield reply
    }
  }

  const binding = bind(Content, {
    write,
    async update({ info }) {
      labels.set(info?.digest ?? '', { ...labels.get(info?.digest ?? ''), ...info?.labels })
      return { info: info ?? {} }
    },
    async abort() {
      return {}
    },
    info: no,
    list: no,
    delete: no,
    read: no,
    status: no,
    listStatuses: no,
  })
  return { binding, blob, addBlob, ...playGrowing({ folder, blob, addBlob }) }
}
