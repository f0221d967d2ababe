import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { generate } from '../../tools/generate-api.ts'

/** Path below the folder to content, for every file in it. */
function filesIn(folder: string): Record<string, string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const paths = entries.map((entry) => join(entry.parentPath, entry.name)).sort()
  return Object.fromEntries(paths.map((path) => [path.slice(folder.length + 1), readFileSync(path, 'utf8')]))
}

test('the committed code is what the protos generate: run `npm run generate` when this fails', {
  timeout: 60_000,
}, () => {
  const target = mkdtempSync(join(tmpdir(), 'gantry-generated-'))
  try {
    generate(target)

    expect(filesIn(join(import.meta.dirname, 'gen'))).toEqual(filesIn(join(target, 'libs/api/gen')))
  } finally {
    rmSync(target, { recursive: true })
  }
})
