import { defineConfig } from 'vitest/config'

/** All unit tests of the repository in one process; `nx run-many -t test` runs the same files a package at a time. */
export default defineConfig({
  test: {
    projects: ['libs/*', 'apps/*', { test: { name: 'tools', include: ['tools/**/*.test.ts'] } }],
    testTimeout: 30_000,
  },
})
