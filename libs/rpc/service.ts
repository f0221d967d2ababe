import type { DescMessage, DescMethod, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import type { CallContext } from './context.ts'

/** The plain function that answers one method; its form follows from the descriptor. */
export type Handler<M> = M extends {
  methodKind: infer Kind
  input: infer I extends DescMessage
  output: infer O extends DescMessage
}
  ? Kind extends 'unary'
    ? (request: MessageShape<I>, context: CallContext) => Promise<MessageInitShape<O>>
    : Kind extends 'server_streaming'
      ? (request: MessageShape<I>, context: CallContext) => AsyncIterable<MessageInitShape<O>>
      : Kind extends 'client_streaming'
        ? (requests: AsyncIterable<MessageShape<I>>, context: CallContext) => Promise<MessageInitShape<O>>
        : (requests: AsyncIterable<MessageShape<I>>, context: CallContext) => AsyncIterable<MessageInitShape<O>>
  : never

/** One handler a method of the service; leave one out and it does not compile. */
export type Implementation<S extends DescService> = { [K in keyof S['method']]: Handler<S['method'][K]> }

/** A service with its implementation, its types erased: what `listen` takes. */
export interface Binding {
  readonly service: DescService
  readonly handlerOf: (method: DescMethod) => ErasedHandler
}

/** A handler after its types are erased: it takes a message or an iterable of them and returns the like. */
export type ErasedHandler = (request: never, context: CallContext) => unknown

/** Ties an implementation to its service. */
export function bind<S extends DescService>(service: S, implementation: Implementation<S>): Binding {
  const handlers = implementation as Record<string, ErasedHandler>
  return {
    service,
    handlerOf: (method) => handlers[method.localName] ?? unimplemented(`${service.typeName}/${method.name}`),
  }
}

/** A handler that fits every method and says that Gantry does not have it yet: `what` names it for the caller. */
export function unimplemented(what: string): () => never {
  return () => {
    throw new Fault('unimplemented', `${what} is not implemented yet`)
  }
}

/** The path of a method on the wire. */
export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`
}
