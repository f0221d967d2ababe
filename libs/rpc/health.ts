import { Health, HealthCheckResponse_ServingStatus as Serving } from '@gantry/api/grpc/health/v1/health_pb'
import { Fault } from '@gantry/model/fault'
import { type Binding, bind } from './service.ts'

/**
 * grpc.health.v1.Health: a process that answers at all serves. Go clients probe it with an empty service name before
 * their first call (behaviour facts, 1.1); of a service by its name nothing is known, as in containerd.
 */
export function healthBinding(): Binding {
  return bind(Health, {
    async check({ service }) {
      if (service !== '')
        throw new Fault('not-found', `Cannot tell the health of "${service}" alone: ask without a service name`)
      return { status: Serving.SERVING }
    },
    async *watch({ service }, { signal }) {
      yield { status: service === '' ? Serving.SERVING : Serving.SERVICE_UNKNOWN }
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    },
  })
}
