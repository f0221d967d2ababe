import { performance } from 'node:perf_hooks'
import { Version } from '@gantry/api/containerd/services/version/v1/version_pb'
import { clientOf, connect } from '@gantry/rpc/client'

const WARM_MS = 300
const MEASURE_MS = 1500

/** Calls Version over one connection, `callers` at a time, and returns how many calls a second were answered. */
export async function callsPerSecond(address: string, callers: number): Promise<number> {
  await using channel = connect(address)
  const client = clientOf(Version, channel)
  const signal = new AbortController().signal
  const during = async (ms: number) => {
    const end = performance.now() + ms
    const counts = await Promise.all(
      Array.from({ length: callers }, async () => {
        let count = 0
        for (; performance.now() < end; count++) await client.version({}, { signal })
        return count
      }),
    )
    return counts.reduce((sum, count) => sum + count, 0)
  }
  await during(WARM_MS)
  return (await during(MEASURE_MS)) / (MEASURE_MS / 1000)
}
