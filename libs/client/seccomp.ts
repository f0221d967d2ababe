import { arch } from 'node:process'
import { Fault } from '@gantry/model/fault'
import { ALLOWED, BY_CAPABILITY } from './seccomp-calls.ts'

const EPERM = 1
const ENOSYS = 38
const AF_VSOCK = 40 // leads to the hypervisor, past every network namespace
const NAMESPACE_FLAGS = 0x7e020000 // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of clone
const HARMLESS_PERSONALITIES = [0, 8, 0x20000, 0x20008, 0xffffffff] // Linux, 32 bits, UNAME26, both, "tell me"
const MAX_CALLS = 10_000 // names in one profile

const FAMILIES: Readonly<Record<string, readonly string[]>> = {
  x64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
}
/** What such profiles call the architectures. */
const GO_ARCH: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }

/** `linux.seccomp` of the OCI runtime spec. */
export type Seccomp = Readonly<Record<string, unknown>> & { readonly defaultAction: string }

/** What decides which conditional rules of a profile count. */
interface Circumstances {
  readonly capabilities: readonly string[]
}

/**
 * The profile of a container that asks for none: all that is not on the list fails with EPERM, which programs expect. Only
 * `clone3`, whose flags a filter cannot see, seems not to exist, so that the C library takes `clone`.
 *
 * @param capabilities those of the container: with one it may call what the kernel wants it for
 */
export function defaultSeccomp(capabilities: readonly string[]): Seccomp {
  const further = capabilities.flatMap((name) => BY_CAPABILITY[name] ?? [])
  const isAdmin = capabilities.includes('CAP_SYS_ADMIN')
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    architectures: FAMILIES[arch] ?? [],
    syscalls: [
      allow([...new Set([...ALLOWED, ...further])]),
      allow(['socket'], { index: 0, value: AF_VSOCK, op: 'SCMP_CMP_NE' }),
      ...HARMLESS_PERSONALITIES.map((value) => allow(['personality'], { index: 0, value, op: 'SCMP_CMP_EQ' })),
      ...(isAdmin
        ? []
        : [
            allow(['clone'], { index: 0, value: NAMESPACE_FLAGS, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }),
            { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
          ]),
    ],
  }
}

/**
 * Reads a profile: that of the OCI runtime spec, or Docker's form of it, whose rules may depend on capabilities and
 * architecture (`includes`, `excludes`) and whose architectures are listed with their families (`archMap`).
 *
 * @param text JSON
 * @throws {Fault} `invalid-argument`
 */
export function parseSeccomp(text: string, where: Circumstances): Seccomp {
  const profile = parseObject(text)
  const { defaultAction, syscalls = [], archMap, ...rest } = profile
  if (typeof defaultAction !== 'string' || !defaultAction.startsWith('SCMP_ACT_'))
    throw malformed('defaultAction is missing, such as "SCMP_ACT_ERRNO"')
  if (!Array.isArray(syscalls)) throw malformed('syscalls is no list')
  const rules = syscalls.filter(isObject).filter((rule) => counts(rule, where))
  const names = rules.flatMap(({ name, names = [name] }) => (Array.isArray(names) ? names : []))
  if (rules.length > MAX_CALLS || names.length > MAX_CALLS) throw malformed(`it names more than ${MAX_CALLS} calls`)
  if (names.some((name) => typeof name !== 'string')) throw malformed('a rule has no names')
  return {
    ...rest,
    defaultAction,
    ...(archMap === undefined ? {} : { architectures: FAMILIES[arch] ?? [] }),
    syscalls: rules.map(({ includes: _, excludes: __, comment: ___, name, names = [name], ...rule }) => ({
      ...rule,
      names,
    })),
  }
}

function counts(rule: Record<string, unknown>, where: Circumstances): boolean {
  const { includes, excludes } = rule
  const wanted = listsOf(includes)
  const unwanted = listsOf(excludes)
  const has = (cap: string): boolean => where.capabilities.includes(cap)
  const here = (one: string): boolean => one === GO_ARCH[arch]
  if (wanted.caps.some((cap) => !has(cap)) || unwanted.caps.some(has)) return false
  return (wanted.arches.length === 0 || wanted.arches.some(here)) && !unwanted.arches.some(here)
}

function listsOf(condition: unknown): { caps: string[]; arches: string[] } {
  const { caps, arches } = isObject(condition) ? condition : {}
  return { caps: Array.isArray(caps) ? caps.map(String) : [], arches: Array.isArray(arches) ? arches.map(String) : [] }
}

function allow(names: readonly string[], ...args: object[]): object {
  return { names, action: 'SCMP_ACT_ALLOW', ...(args.length > 0 && { args }) }
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (isObject(value)) return value
  } catch (cause) {
    throw malformed('it is not JSON', cause)
  }
  throw malformed('it is not a JSON object')
}

function malformed(why: string, cause?: unknown): Fault {
  return new Fault('invalid-argument', `Cannot use the seccomp profile: ${why}`, { cause })
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
