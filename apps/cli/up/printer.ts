import type { Writable } from 'node:stream'
import type { Render } from './log-line.ts'

const MAX_WAITING = 4 * 1024 * 1024 // bytes a reader of our output may lag behind; then lines are dropped

/** Where the lines of all processes come together. */
export interface Printer {
  /** A line of a process. */
  line(name: string, line: string): void
  /** A line of our own. */
  say(level: 'info' | 'warn', message: string): void
  /** A line that stands alone, so that scripts may wait for it. */
  announce(message: string): void
}

const LEVELS = { info: 30, warn: 40 }

/** Prints to `out`. A reader that went away or cannot keep up loses lines; the node runs on. */
export function createPrinter(out: Writable, { render, json }: { render: Render; json: boolean }): Printer {
  let dropped = 0
  out.on('error', () => undefined)
  const write = (text: string | undefined): void => {
    if (text === undefined) return
    if (out.destroyed || out.writableLength > MAX_WAITING) {
      dropped++
      return
    }
    if (dropped > 0) out.write(`${render('up', record('warn', `${dropped} lines were dropped: nobody read them`))}\n`)
    dropped = 0
    out.write(`${text}\n`)
  }
  return {
    line: (name, line) => write(render(name, line)),
    say: (level, message) => write(render('up', record(level, message))),
    announce: (message) => write(json ? record('info', message) : message),
  }
}

function record(level: keyof typeof LEVELS, msg: string): string {
  return JSON.stringify({ level: LEVELS[level], time: Date.now(), name: 'gantry-up', msg })
}
