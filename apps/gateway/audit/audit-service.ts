import { fromBinary } from '@bufbuild/protobuf'
import { type Audit, BatchSchema } from '@gantry/api/gantry/audit/v1/audit_pb'
import { type Instant, toMs } from '@gantry/model/clock'
import { Fault } from '@gantry/model/fault'
import type { Implementation } from '@gantry/rpc/service'
import type { Journal } from '@gantry/service/journal'

/** Where the log is on the server of events. */
export const AUDIT_LOG = { name: 'GANTRY_AUDIT', subject: 'gantry.audit' }

/** The years that a protobuf timestamp may be in: 1 to 9999. */
const [FIRST, LAST] = [-62135596800n, 253402300799n] // seconds

/** gantry.audit.v1.Audit: reads what gateways of this node have noted. @param journal none where nothing is kept */
export function auditService(journal: Journal | undefined): Implementation<typeof Audit> {
  return {
    async *read({ since }, { signal }) {
      if (!journal)
        throw new Fault('failed-precondition', 'Cannot read the audit log: it is switched off (gateway.audit)')
      const from = since ? parseStart(since) : new Date(0)
      for await (const bytes of journal.read(from, signal)) {
        const { records, dropped } = fromBinary(BatchSchema, bytes)
        const wanted = records.filter(({ time }) => time === undefined || toMs(time) >= from.getTime())
        if (wanted.length > 0 || dropped > 0n) yield { records: wanted, dropped }
      }
    },
  }
}

function parseStart(since: Instant): Date {
  if (since.seconds >= FIRST && since.seconds <= LAST) return new Date(toMs(since))
  throw new Fault('invalid-argument', `Cannot read from ${since.seconds} s after 1970: that is no time`)
}
