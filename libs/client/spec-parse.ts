import type { Spec } from './spec.ts'

/** Reads a spec that somebody stored; `undefined` when it is not one. Only the fields that `Spec` names are checked. */
export function parseSpec(bytes: Uint8Array): Spec | undefined {
  try {
    const spec: unknown = JSON.parse(Buffer.from(bytes).toString())
    return isSpec(spec) ? withLists(spec) : undefined
  } catch {
    return undefined
  }
}

/** Lists that a stored spec may leave out. */
function withLists(spec: Spec): Spec {
  return { ...spec, mounts: spec.mounts ?? [], process: { ...spec.process, env: spec.process.env ?? [] } }
}

function isSpec(value: unknown): value is Spec {
  if (!isObject(value) || !isObject(value.process)) return false
  const { args, env, user } = value.process
  return Array.isArray(args) && (env === undefined || Array.isArray(env)) && isObject(user)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
