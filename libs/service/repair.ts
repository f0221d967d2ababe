import {
  Difference_Outcome as Outcome,
  type RepairResponse,
  Repair as RepairService,
} from '@gantry/api/gantry/owner/v1/owner_pb'
import { type Binding, bind } from '@gantry/rpc/service'

/** Something that is not as the records say. */
export interface Difference {
  readonly what: string
  /** What it is about: a path, a digest, a task. */
  readonly of: string
  /** What a person has to do about it; absent when it is put right, or would be without `dryRun`. */
  readonly advice?: string
}

/** Compares the records with what is there, and puts right what can be; with `dryRun` it only tells. */
export type Repair = (dryRun: boolean, signal: AbortSignal) => AsyncIterable<Difference>

/** gantry.owner.v1.Repair, for an owner that puts its own things right. */
export function repairBinding(repair: Repair): Binding {
  return bind(RepairService, {
    async *repair({ dryRun }, { signal }) {
      for await (const { what, of, advice = '' } of repair(dryRun, signal))
        yield { differences: [{ what, of, advice, outcome: outcomeOf(advice, dryRun) }] }
    },
  })
}

function outcomeOf(advice: string, dryRun: boolean): RepairResponse['differences'][number]['outcome'] {
  if (advice !== '') return Outcome.LEFT
  return dryRun ? Outcome.FOUND : Outcome.REPAIRED
}
