import { readdirSync } from 'node:fs'
import type { Metrics } from '@gantry/model/metric'
import { VERSION } from './version.ts'

/** What every process tells of itself; names are those of Prometheus's own clients. */
export function countProcess(metrics: Metrics, app: string): void {
  const started = Date.now() / 1000 - process.uptime()
  const build = [{ labels: [app, VERSION, process.version], value: 1 }]
  const about = { name: 'gantry_build_info', help: 'Which process this is.', labels: ['app', 'version', 'node'] }
  metrics.read('gauge', about, () => build)
  metrics.read('counter', { name: 'process_cpu_seconds_total', help: 'Processor time used.' }, () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })
  const seconds = { name: 'process_start_time_seconds', help: 'When it started, in seconds since 1970.' }
  metrics.read('gauge', seconds, () => started)
  const resident = { name: 'process_resident_memory_bytes', help: 'Memory that is resident.' }
  metrics.read('gauge', resident, () => process.memoryUsage.rss())
  metrics.read('gauge', { name: 'process_open_fds', help: 'Descriptors that are open.' }, countDescriptors)
  const busy = { name: 'nodejs_eventloop_busy_seconds_total', help: 'Time that the event loop did not wait.' }
  metrics.read('counter', busy, () => performance.eventLoopUtilization().active / 1000)
}

function countDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}
