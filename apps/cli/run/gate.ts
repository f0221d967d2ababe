import { Writable } from 'node:stream'

/** Passes on what is written to it once it is open. */
export interface Gate {
  readonly stream: Writable
  open(): void
  /** Throws away what waits and what comes. */
  drop(): void
  /** Resolves when all that came is passed on or thrown away; nothing may come any more. */
  finish(): Promise<void>
}

/**
 * Holds the first words of a process back until it is known to run: when it cannot be started, they are those of the OCI
 * runtime, which the failure repeats.
 */
export function createGate(to: NodeJS.WritableStream): Gate {
  let state: 'held' | 'open' | 'dropped' = 'held'
  let waiting = (): void => undefined
  const turn = (next: 'open' | 'dropped'): void => {
    if (state !== 'held') return
    state = next
    waiting()
  }
  const stream = new Writable({
    write(chunk: Uint8Array, _encoding, done) {
      const pass = (): void => {
        if (state === 'open')
          to.write(chunk, () => done()) // a broken `to` takes nothing more, and needs nothing more
        else done()
      }
      if (state === 'held') waiting = pass
      else pass()
    },
  })
  return {
    stream,
    open: () => turn('open'),
    drop: () => turn('dropped'),
    finish: () => new Promise((resolve) => stream.end(resolve)),
  }
}
