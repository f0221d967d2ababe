import { expect, test } from 'vitest'
import { sandboxService } from './sandbox-service.ts'

test.each([
  ['', 'invalid-argument'],
  ['nobody', 'not-found'],
  ['shim', 'unimplemented'],
  ['podsandbox', 'unimplemented'],
])('a sandbox by the controller %j is refused as containerd does it', (sandboxer, code) => {
  const { status } = sandboxService()
  const call = () => (status as (request: object) => never)({ sandboxId: 'pod', sandboxer })

  expect(call).toThrow(expect.objectContaining({ code }))
})
