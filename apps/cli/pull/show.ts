import { performance } from 'node:perf_hooks'
import type { Progress } from '@gantry/client/images'
import { advance, NOTHING, type PullState } from './progress.ts'
import { renderBlock, renderPlain } from './render.ts'

const REDRAW_MS = 80

/** Shows how a pull goes. Disposing it leaves the last picture standing. */
export interface Display extends Disposable {
  update(progress: Progress): void
}

/** A block that is redrawn on a terminal, a line for each step elsewhere. */
export function openDisplay(out: NodeJS.WriteStream): Display {
  return out.isTTY ? openBlock(out) : openLines(out)
}

function openBlock(out: NodeJS.WriteStream): Display {
  const started = performance.now()
  let state: PullState = NOTHING
  let height = 0
  let drawn: PullState | undefined
  const draw = (): void => {
    const lines = renderBlock(state, { columns: out.columns || 80, rows: out.rows || 24 }, performance.now() - started)
    const up = height > 0 ? `\x1b[${height}A` : ''
    out.write(`${up}\r\x1b[0J${lines.join('\n')}\n`)
    height = lines.length
    drawn = state
  }
  const timer = setInterval(draw, REDRAW_MS)
  return {
    update: (progress) => {
      state = advance(state, progress)
    },
    [Symbol.dispose]() {
      clearInterval(timer)
      if (drawn !== state) draw()
    },
  }
}

function openLines(out: NodeJS.WriteStream): Display {
  let state: PullState = NOTHING
  return {
    update(progress) {
      const before = state.items.get(progress.name)
      state = advance(state, progress)
      const item = state.items.get(progress.name)
      if (item && item.event !== before?.event) out.write(`${renderPlain(item)}\n`)
    },
    [Symbol.dispose]: () => undefined,
  }
}
