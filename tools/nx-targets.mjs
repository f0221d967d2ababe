/**
 * Gives every package the same cached nx targets, so that no package repeats them.
 *
 *   check = lint + typecheck + test        build: only for packages with a main.ts
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

export const createNodesV2 = [
  '{apps,libs}/*/package.json',
  (files, _options, { workspaceRoot }) =>
    files.map((file) => {
      const root = dirname(file)
      const cached = (command) => ({ command, cache: true, inputs: ['source', '^source'], options: { cwd: root } })
      const targets = {
        lint: cached('biome check --error-on-warnings .'),
        typecheck: cached('tsc -p .'),
        test: cached('vitest run --passWithNoTests'),
      }
      targets.check = { executor: 'nx:noop', dependsOn: Object.keys(targets) }
      if (existsSync(join(workspaceRoot, root, 'main.ts')))
        targets.build = {
          ...cached('rolldown main.ts --platform node --format esm --file dist/main.js'),
          outputs: ['{projectRoot}/dist'],
        }
      return [file, { projects: { [root]: { targets } } }]
    }),
]
