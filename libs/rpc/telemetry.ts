import type { DescMethod } from '@bufbuild/protobuf'
import { type Scope, scopeOf } from './scope.ts'

/** Hears of the calls that a process serves or passes on: who counts or traces them. */
export interface Telemetry {
  /** Asked once for each method. */
  of(method: DescMethod): MethodTelemetry
}

export interface MethodTelemetry {
  /** A call begins, with these headers. */
  begin(header: (name: string) => string | undefined): CallTelemetry
}

export interface CallTelemetry {
  /** What its work runs in. */
  readonly scope: Scope
  /** It is over. @param code of gRPC */
  end(code: number): void
}

/** For a process that nobody watches: its calls still have ids. */
export const UNWATCHED: Telemetry = {
  of: () => ({ begin: (header) => ({ scope: scopeOf(header), end: () => undefined }) }),
}
