import { expect, test } from 'vitest'
import { type SandboxServiceParts, sandboxService } from './sandbox-service.ts'

test.each([
  ['', 'invalid-argument'],
  ['nobody', 'not-found'],
  ['podsandbox', 'unimplemented'],
])('a sandbox by the controller %j is refused as containerd does it', async (sandboxer, code) => {
  const { status } = sandboxService({} as SandboxServiceParts)
  const call = (status as (request: object, context: object) => Promise<unknown>)({ sandboxId: 'pod', sandboxer }, {})

  await expect(call).rejects.toMatchObject({ code })
})
