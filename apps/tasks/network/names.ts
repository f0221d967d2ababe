import { existsSync, readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import type { NetworkRequest } from '@gantry/model/network'

const RESOLV_CONF = '/etc/resolv.conf'
const SYSTEMD_RESOLV_CONF = '/run/systemd/resolve/resolv.conf' // the servers behind systemd's own on 127.0.0.53
const LOCAL_NAMES = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n'

/** /etc/hosts of a container. @param addresses its own, without prefix lengths */
export function hostsFile(addresses: readonly string[], hostname: string, hosts: readonly string[]): string {
  const own = hostname === '' ? [] : addresses.map((address) => `${address}\t${hostname}\n`)
  const given = hosts.map((host) => `${host.slice(host.indexOf(':') + 1)}\t${host.slice(0, host.indexOf(':'))}\n`)
  return [LOCAL_NAMES, ...own, ...given].join('')
}

/**
 * /etc/resolv.conf of a container: what it asks for, else what its network says, else what the host uses. A name server on
 * the host's loopback is left out: the container has a loopback of its own.
 */
export function resolvConf(
  { dns, search }: Pick<NetworkRequest, 'dns' | 'search'>,
  network: { readonly nameservers: readonly string[]; readonly search: readonly string[] },
  host: string = readHostFile(),
): string {
  const lines = host.split('\n').map((line) => line.trim().split(/\s+/))
  const values = (key: string): string[] => lines.filter(([first]) => first === key).flatMap(([, ...rest]) => rest)
  const servers = firstOf(dns, network.nameservers, values('nameserver').filter(isReachable))
  const domains = firstOf(search, network.search, values('search'))
  const options = values('options')
  return [
    ...servers.map((server) => `nameserver ${server}\n`),
    ...(domains.length > 0 ? [`search ${domains.join(' ')}\n`] : []),
    ...(options.length > 0 ? [`options ${options.join(' ')}\n`] : []),
  ].join('')
}

function firstOf(...lists: readonly (readonly string[])[]): readonly string[] {
  return lists.find((list) => list.length > 0) ?? []
}

function isReachable(server: string): boolean {
  return isIP(server) !== 0 && !server.startsWith('127.') && server !== '::1'
}

function readHostFile(): string {
  const read = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '')
  const text = read(RESOLV_CONF)
  const behind = read(SYSTEMD_RESOLV_CONF)
  return behind !== '' && !text.split('\n').some((line) => isReachable(line.split(/\s+/)[1] ?? '')) ? behind : text
}
