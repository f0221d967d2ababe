import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect as dial } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { type Hop, hopAddress, openHop } from './hop.ts'

const STREAM_WINDOW = 1024 * 1024 // bytes of one reply that may come before they are passed on
const SESSION_WINDOW = 16 * 1024 * 1024
const MAX_FRAME = 256 * 1024 // bytes: fewer of them cost less
const RETRY_MS = 25

/** A connection for bytes that are passed through. It is made when first needed, and again whenever it broke. */
export interface Upstream extends AsyncDisposable {
  /** The connection when it stands now. */
  current(): ClientHttp2Session | undefined
  /** The hop for calls with one message each way, when it stands now. */
  hop(): Hop | undefined
  /** @throws {Fault} `unavailable` when it does not stand within `waitMs` */
  session(waitMs: number): Promise<ClientHttp2Session>
}

export function createUpstream(address: string): Upstream {
  let ready: ClientHttp2Session | undefined
  let opening: Promise<ClientHttp2Session> | undefined
  let closed = false
  let hop: Hop | undefined
  let hopping: Disposable | undefined

  /** With each new connection: a peer without a hop is spoken to without. */
  function openHopToo(): void {
    hopping?.[Symbol.dispose]()
    const mine = openHop(
      hopAddress(address),
      (opened) => {
        if (hopping === mine) hop = opened
      },
      () => {
        if (hopping === mine) hop = hopping = undefined
      },
    )
    hopping = mine
  }

  async function open(): Promise<ClientHttp2Session> {
    const session = connectHttp2('http://localhost', {
      createConnection: () => dial(address),
      settings: { initialWindowSize: STREAM_WINDOW, maxFrameSize: MAX_FRAME, enablePush: false },
      maxSessionMemory: 1000, // MB: what it holds is bounded by its windows
      maxHeaderListPairs: 1000,
    })
    session.on('error', () => undefined) // `close` follows
    const gone = (): void => {
      if (ready === session) ready = undefined
    }
    session.on('close', gone)
    session.on('goaway', gone) // new calls wait for the next one
    await new Promise<void>((resolve, reject) => {
      session.once('connect', () => resolve())
      session.once('close', () => reject(new Fault('unavailable', `Cannot reach "${address}"`)))
    })
    session.setLocalWindowSize(SESSION_WINDOW)
    if (!session.closed) ready = session
    openHopToo()
    return session
  }

  return {
    current: () => ready,
    hop: () => hop,
    async session(waitMs) {
      const end = performance.now() + waitMs
      while (!ready && !closed && performance.now() < end) {
        opening ??= open().finally(() => {
          opening = undefined
        })
        await opening.catch(() => sleep(RETRY_MS))
      }
      if (ready) return ready
      throw new Fault('unavailable', `Cannot reach "${address}": is the service running?`)
    },
    async [Symbol.asyncDispose]() {
      closed = true
      ready?.destroy()
      hopping?.[Symbol.dispose]()
    },
  }
}
