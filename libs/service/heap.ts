import { setFlagsFromString } from 'node:v8'

/**
 * Keeps the space of young objects where it is: V8 lets it grow to a hundred MB while calls come fast, and hardly gives it back,
 * though what a call makes is dead when it is answered. To be called first; it holds for threads that are started later, too.
 */
export function keepYoungSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
}

/**
 * As `keepYoungSmall`, and for a process that lives on little: what died among the old, as each header that node:http2 hands
 * over does, V8 lets grow to several times of what lives before it looks, and each such header keeps as much again outside of
 * the heap. Now it looks when half as much has come as lives. Not where records may fill the heap: to look at 600 MB takes a
 * second, in which nothing is answered.
 */
export function keepHeapSmall(): void {
  keepYoungSmall()
  setFlagsFromString('--heap-growing-percent=50')
}
