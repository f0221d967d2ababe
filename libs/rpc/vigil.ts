const SOON_MS = 1
const ENOUGH = 8 // times in a row that it came soon

/**
 * Stays awake while the next thing is expected within a moment. A process that sleeps must be woken: on a virtual machine
 * that takes the one who wakes it 30 to 50 µs, as long as a small call itself, and about as long passes until it runs.
 * So one that several times got soon what it expected looks for it, again and again, in place of sleeping. When it does not
 * come, that has cost a millisecond of processor time, and the process sleeps as before.
 */
export interface Vigil {
  /** Something should come, and there is nothing else to do. */
  expect(): void
  /** It is here. */
  came(): void
  /** There is so much to do that nobody sleeps anyway. */
  cease(): void
}

export function createVigil(): Vigil {
  let isExpecting = false
  let isAwake = false
  let since = 0
  let soon = 0

  const isLate = (): boolean => performance.now() - since > SOON_MS

  /** The event loop does not wait for what comes while an immediate is due. */
  function look(): void {
    if (isExpecting && !isLate()) return void setImmediate(look)
    isAwake = false
    if (isExpecting) soon = 0
  }

  return {
    expect() {
      isExpecting = true
      since = performance.now()
      if (soon < ENOUGH || isAwake) return
      isAwake = true
      setImmediate(look)
    },
    came() {
      if (!isExpecting) return
      isExpecting = false
      soon = isLate() ? 0 : soon + 1
    },
    cease() {
      isExpecting = false
      soon = 0
    },
  }
}
