import type { MessageInitShape } from '@bufbuild/protobuf'
import { Introspection, type PluginSchema } from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import { Fault } from '@gantry/model/fault'
import { fieldsOf, parseFilters } from '@gantry/model/filter'
import { type Binding, bind, type Implementation, unimplemented } from '@gantry/rpc/service'

/** What a process says of one part of itself (behaviour facts, 13); types are in full, such as `io.containerd.gc.v1`. */
export type Plugin = Omit<MessageInitShape<typeof PluginSchema>, '$typeName' | '$unknown'> & {
  readonly type: string
  readonly id: string
}

/** containerd.services.introspection.v1.Introspection of one process; the gateway sums them. */
export function introspection(plugins: readonly Plugin[]): Binding {
  return bind(Introspection, introspectionOf(plugins))
}

/** The same, unbound, for a process that answers some of it differently. */
export function introspectionOf(plugins: readonly Plugin[]): Implementation<typeof Introspection> {
  return {
    async plugins({ filters }) {
      const wanted = parseFilters(filters)
      return { plugins: plugins.filter(({ type, id }) => wanted(fieldsOf({ type, id }))) }
    },
    server: unimplemented('containerd.services.introspection.v1.Introspection/Server'),
    async pluginInfo({ type, id }) {
      const plugin = plugins.find((plugin) => plugin.type === type && plugin.id === id)
      if (plugin === undefined) throw new Fault('not-found', `plugin ${type}.${id}: not found`)
      throw new Fault('unimplemented', `plugin ${type}.${id} has no further information`)
    },
  }
}
