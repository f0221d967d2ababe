import { declareBlocking } from './system.ts'

/**
 * What gives memory that was freed back to the kernel, on a thread of the pool: between things that live on glibc keeps it.
 * Undefined where libc does so by itself.
 */
export function memoryTrimmer(): (() => Promise<unknown>) | undefined {
  try {
    const trim = declareBlocking('int malloc_trim(size_t pad)')
    return () => trim(0)
  } catch {
    return undefined
  }
}
