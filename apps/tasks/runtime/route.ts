import type { Runtime, RuntimeTask } from './runtime.ts'

/** Sends every call to the runtime that its task was made for. */
export function routeRuntime(builtIn: Runtime, shims: Runtime): Runtime {
  const of = ({ runtime }: RuntimeTask): Runtime => (runtime.shim ? shims : builtIn)
  return {
    create: (process, rootfs) => of(process.task).create(process, rootfs),
    start: (task) => of(task).start(task),
    prepare: (process, rootfs, from) => of(process.task).prepare(process, rootfs, from),
    restore: (process, from) => of(process.task).restore(process, from),
    exec: (process, spec) => of(process.task).exec(process, spec),
    kill: (process, live, signal) => of(process.task).kill(process, live, signal),
    killAll: (task, live, signal) => of(task).killAll(task, live, signal),
    pause: (task) => of(task).pause(task),
    resume: (task) => of(task).resume(task),
    update: (task, resources) => of(task).update(task, resources),
    checkpoint: (task, wish) => of(task).checkpoint(task, wish),
    pids: (task) => of(task).pids(task),
    status: (task) => of(task).status(task),
    resize: (process, live, size) => of(process.task).resize(process, live, size),
    closeInput: (process, live) => of(process.task).closeInput(process, live),
    endInput: (live) => builtIn.endInput(live), // only a task of the built-in one has helpers
    release: (process, live) => of(process.task).release(process, live),
    delete: (task) => of(task).delete(task),
    discard: (folder) => builtIn.discard(folder),
    watch: (process, live, watcher) => of(process.task).watch(process, live, watcher),
  }
}
