import type { Spec } from './spec.ts'

/** Reads a spec that somebody stored; `undefined` when it is not one. Only the fields that `Spec` names are checked. */
export function parseSpec(bytes: Uint8Array): Spec | undefined {
  try {
    const spec = readJson(bytes)
    return isSpec(spec) ? withLists(spec) : undefined
  } catch {
    return undefined
  }
}

/** Reads JSON as `packJson` writes it: a whole number that does not fit one of ours is a bigint. */
export function readJson(bytes: Uint8Array): unknown {
  const text = Buffer.from(bytes).toString()
  return LARGE.test(text) ? JSON.parse(text, exactly) : JSON.parse(text)
}

const LARGE = /\d{16}/ // digits of which some number may have too many
function exactly(_key: string, value: unknown, context?: { source?: string }): unknown {
  const source = context?.source ?? ''
  return typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(source) ? BigInt(source) : value
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
