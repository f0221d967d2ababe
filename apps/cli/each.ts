import type { Context } from './context.ts'
import { isInterruption, report } from './report.ts'

/** Does the same to several things; one that fails is told and does not keep the others from their turn. */
export async function each(
  names: readonly string[],
  context: Pick<Context, 'env' | 'stderr'>,
  action: (name: string) => Promise<void>,
): Promise<void> {
  for (const name of names) {
    try {
      await action(name)
    } catch (error) {
      if (isInterruption(error)) throw error
      process.exitCode = report(error, context)
    }
  }
}
