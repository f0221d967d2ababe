/** The tests write and hash a lot: on a busy machine that takes its time. */
export default { test: { testTimeout: 60_000, hookTimeout: 60_000 } }
