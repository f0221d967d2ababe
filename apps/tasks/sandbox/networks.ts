import type { Networks } from '../network/networks.ts'

const MARK = '.' // no container's id begins with it

/** The networks of containers, where those of sandboxes are kept as well. */
export function networksOfContainers(networks: Networks): Networks {
  return { ...networks, sweep: (runs) => networks.sweep((namespace, id) => isSandbox(id) || runs(namespace, id)) }
}

export function networksOfSandboxes(networks: Networks): Networks {
  return {
    attach: (namespace, id, ...rest) => networks.attach(namespace, `${MARK}${id}`, ...rest),
    detach: (namespace, id) => networks.detach(namespace, `${MARK}${id}`),
    sweep: (runs) => networks.sweep((namespace, id) => !isSandbox(id) || runs(namespace, id.slice(MARK.length))),
  }
}

function isSandbox(id: string): boolean {
  return id.startsWith(MARK)
}
