import type { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { type Implementation, unimplemented } from '@gantry/rpc/service'

const storeCall = unimplemented('The sandbox store')
const controllerCall = unimplemented('The sandbox controller')

/** containerd.services.sandbox.v1.Store: not there yet. */
export const sandboxStoreService: Implementation<typeof Store> = {
  create: storeCall,
  update: storeCall,
  delete: storeCall,
  list: storeCall,
  get: storeCall,
}

/** containerd.services.sandbox.v1.Controller: not there yet. */
export const sandboxControllerService: Implementation<typeof Controller> = {
  create: controllerCall,
  start: controllerCall,
  platform: controllerCall,
  stop: controllerCall,
  wait: controllerCall,
  status: controllerCall,
  shutdown: controllerCall,
  metrics: controllerCall,
  update: controllerCall,
}
