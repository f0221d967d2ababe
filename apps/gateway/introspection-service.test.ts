import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from '@gantry/rpc/client'
import { createContext } from '@gantry/rpc/context'
import { listen } from '@gantry/rpc/server'
import { introspection, introspectionOf } from '@gantry/service/plugins'
import { expect, onTestFinished, test } from 'vitest'
import { introspectionService } from './introspection-service.ts'

const log = { error: () => undefined, debug: () => undefined }

test('a plugin that has nothing more to say says so, whose ever it is, and one that nobody knows is not found', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-plugins-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const at = (name: string) => join(folder, name)
  await using metadata = await listen({ address: at('m'), bindings: [introspection([{ type: 'a', id: 'm' }])], log })
  await using _tasks = await listen({ address: at('t'), bindings: [introspection([{ type: 'a', id: 't' }])], log })
  await using channels = new AsyncDisposableStack()
  const channel = (name: string) => channels.use(connect(at(name)))
  const own = introspectionOf([{ type: 'a', id: 'own' }])
  const { pluginInfo } = introspectionService({ own, metadata: channel('m'), others: [channel('t')], log })
  const context = createContext({ header: () => undefined, signal: AbortSignal.timeout(30_000) })
  const ask = (id: string) => pluginInfo({ type: 'a', id } as never, context)

  for (const id of ['own', 'm', 't']) await expect(ask(id)).rejects.toMatchObject({ code: 'unimplemented' })
  await expect(ask('x')).rejects.toMatchObject({ code: 'not-found' })

  await metadata[Symbol.asyncDispose]()
  const away = [ask('t'), ask('m')]
  await expect(away[0]).rejects.toMatchObject({ code: 'unimplemented' })
  await expect(away[1]).rejects.toMatchObject({ code: 'unavailable' })
}, 60_000)
