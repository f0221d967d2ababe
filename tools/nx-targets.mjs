/**
 * Gives every package the same cached nx targets, so that no package repeats them.
 *
 *   check = lint + typecheck + test
 */
import { dirname } from 'node:path'

export const createNodesV2 = [
  '{apps,libs}/*/package.json',
  (files) =>
    files.map((file) => {
      const root = dirname(file)
      const cached = (command) => ({ command, cache: true, inputs: ['source', '^source'], options: { cwd: root } })
      const targets = {
        lint: cached('biome check --error-on-warnings .'),
        typecheck: cached('tsc -p .'),
        test: cached('vitest run --passWithNoTests'),
      }
      targets.check = { executor: 'nx:noop', dependsOn: Object.keys(targets) }
      return [file, { projects: { [root]: { targets } } }]
    }),
]
