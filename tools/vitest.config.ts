import { globSync } from 'node:fs'
import { defineConfig } from 'vitest/config'

const top = `${import.meta.dirname}/..`

/** All unit tests of the repository in one process; `nx run-many -t test` runs the same files a package at a time. */
export default defineConfig({
  test: {
    projects: globSync(['libs/*', 'apps/*', 'tools'], { cwd: top }).map((folder) => ({
      extends: true as const,
      root: `${top}/${folder}`,
      test: { name: folder },
    })),
    testTimeout: 30_000, // a loaded machine takes its time
    expect: { poll: { timeout: 20_000 } },
  },
})
