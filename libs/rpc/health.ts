import { Health, HealthCheckResponse_ServingStatus as Serving } from '@gantry/api/grpc/health/v1/health_pb'
import { type Binding, bind } from './service.ts'

/**
 * grpc.health.v1.Health: a process that answers at all serves. Go clients probe it with an empty service name before
 * their first call (behaviour facts, 1.1).
 */
export function healthBinding(): Binding {
  return bind(Health, {
    check: async () => ({ status: Serving.SERVING }),
    async *watch(_request, { signal }) {
      yield { status: Serving.SERVING }
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    },
  })
}
