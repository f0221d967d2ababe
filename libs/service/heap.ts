import { setFlagsFromString } from 'node:v8'

/**
 * Keeps the memory of a process that serves small calls where it is: what a call makes is dead when it is answered. V8 lets the
 * space of young objects grow to a hundred MB while calls come fast, and hardly gives it back. What of them lies among the old, as
 * each header that node:http2 hands over does, it lets grow to several times of what lives before it looks; and each such
 * header keeps as much again outside of the heap. Now it looks when half as much has come as lives. To be called first; it
 * holds for threads that are started later, too.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
  setFlagsFromString('--heap-growing-percent=50')
}
