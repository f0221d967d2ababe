import { defineConfig } from 'vitest/config'

/** One file after the other: they share the host's mounts, cgroups and processes, and look for what is left of them. */
export default defineConfig({
  test: {
    include: ['**/*.e2e.ts', 'harness/**/*.test.ts'],
    globalSetup: ['./harness/fixture-setup.ts'],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
})
