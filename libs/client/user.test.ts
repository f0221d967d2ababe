import { expect, test } from 'vitest'
import { isNumeric, resolveUser } from './user.ts'

const PASSWD =
  'root:x:0:0::/root:/bin/sh\n# no line\nweb:x:1000:1001::/:\n4294967296:x:5:5::/:\n1:x:77:77::/:\nbad:x:-1:0::/:\n'
const GROUP = 'root:x:0:\nweb:x:1001:\nextra:x:7:root,web\nwheel:x:10:web\n'
const files = { passwd: async () => PASSWD, group: async () => GROUP }

test.each([
  ['', { uid: 0, gid: 0, additionalGids: [0, 7] }],
  ['root', { uid: 0, gid: 0, additionalGids: [0, 7] }],
  ['web', { uid: 1000, gid: 1001, additionalGids: [1001, 7, 10] }],
  ['1000', { uid: 1000, gid: 1001, additionalGids: [1001, 7, 10] }],
  ['web:wheel', { uid: 1000, gid: 10, additionalGids: [10] }],
  ['web:5', { uid: 1000, gid: 5, additionalGids: [5] }],
  ['42', { uid: 42, gid: 0, additionalGids: [0] }],
  ['42:43', { uid: 42, gid: 43, additionalGids: [43] }],
  ['4294967294', { uid: 4294967294, gid: 0, additionalGids: [0] }],
])('user %j is found with all its groups (CVE-2023-25173, CVE-2022-36109)', async (text, user) => {
  expect(await resolveUser(text, files)).toEqual(user)
})

test('a number is a uid, also when a name looks like it (CVE-2026-30892)', async () => {
  expect(await resolveUser('1', files)).toMatchObject({ uid: 1 })
})

test.each(['4294967295', '4294967296', '99999999999999999999', '-1', '+0', '0:4294967296', '0:-5'])(
  'number %s is out of range and never root (CVE-2024-40635, CVE-2026-46680)',
  async (text) => {
    await expect(resolveUser(text, files)).rejects.toMatchObject({ code: 'invalid-argument' })
  },
)

test.each(['nobody', 'bad', 'web:nogroup', '0x10', '1e3'])('user %s is not in the image', async (text) => {
  await expect(resolveUser(text, files)).rejects.toMatchObject({ code: 'not-found' })
})

test.each([':', 'a:', ':1', 'a:b:c', 'web\nroot'])('user %j is malformed', async (text) => {
  await expect(resolveUser(text, files)).rejects.toMatchObject({ code: 'invalid-argument' })
})

test('only numbers do without the image', () => {
  expect(['', '0', '1:2'].every(isNumeric)).toBe(true)
  expect(['web', '1:web'].some(isNumeric)).toBe(false)
})
