/** A program on a terminal of its own, at which somebody sits. */
import { spawn } from 'node:child_process'
import { until } from './daemon.ts'

export interface Terminal {
  type(text: string): void
  shown(): string
  /** Waits until it shows this. */
  shows(text: string): Promise<void>
  resize(rows: number, columns: number): void
  /** The terminal goes; the program is told. */
  hangUp(): void
  /** The exit code of the program. */
  readonly ended: Promise<number>
}

/** Of 33 rows and 101 columns, by util-linux `script`. */
export function openTerminal(argv: readonly string[], env: Readonly<Record<string, string>>): Terminal {
  const line = argv.map((word) => `'${word}'`).join(' ')
  const child = spawn('script', ['-qec', `tty; stty rows 33 cols 101; exec ${line}`, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  let shown = ''
  child.stdout.on('data', (chunk: Buffer) => {
    shown += chunk.toString()
  })
  child.stdin.on('error', () => undefined) // it may have ended
  return {
    type: (text) => void child.stdin.write(text),
    shown: () => shown,
    shows: (text) => until(`the terminal shows ${text}`, () => shown.includes(text), { context: () => shown }),
    resize(rows, columns) {
      const [device = ''] = /\/dev\/pts\/\d+/.exec(shown) ?? []
      spawn('stty', ['-F', device, 'rows', String(rows), 'cols', String(columns)], { stdio: 'inherit' })
    },
    hangUp: () => void child.kill('SIGKILL'),
    ended: new Promise((resolve) => child.once('exit', (code) => resolve(code ?? -1))),
  }
}
