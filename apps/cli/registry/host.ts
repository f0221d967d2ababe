import { Fault } from '@gantry/model/fault'
import { parseReference } from '@gantry/model/reference'

/** A host as people name it: `https://registry.example.com/` is `registry.example.com`. @throws {Fault} `invalid-argument` */
export function hostOf(text: string): string {
  const host = text.replace(/^https?:\/\//, '').replace(/\/(v1\/?|v2\/?)?$/, '')
  if (host.includes('/'))
    throw new Fault('invalid-argument', `Cannot use host ${JSON.stringify(text.slice(0, 128))}: it has a path`)
  return parseReference(`${host}/any`).host.replace(/^(index|registry-1)\.docker\.io$/, 'docker.io')
}
