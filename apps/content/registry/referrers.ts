import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import type { Digest } from '@gantry/model/digest'
import { MAX_MANIFEST_BYTES, parseIndex } from '@gantry/model/manifest'
import { readBounded } from './body.ts'
import { urlOf } from './endpoint.ts'
import { refusal, type Sender } from './sender.ts'
import { errandFor, type Site } from './site.ts'

/** Asks for referrers, and for the tag that stands in for them where the registry does not know the question. */
export async function fetchReferrers(
  sender: Sender,
  { site, digest, artifactType }: { site: Site; digest: Digest; artifactType: string },
  signal: AbortSignal,
): Promise<Descriptor[]> {
  const { endpoint, source } = site
  const asked = urlOf(endpoint, source.reference, 'referrers', digest)
  if (artifactType !== '') asked.searchParams.set('artifactType', artifactType)
  const tag = urlOf(endpoint, source.reference, 'manifests', digest.replace(':', '-'))
  const found =
    (await readIndex(sender, { site, url: asked, digest }, signal)) ??
    (await readIndex(sender, { site, url: tag, digest }, signal))
  return (found ?? []).filter((descriptor) => artifactType === '' || descriptor.artifactType === artifactType)
}

/** Undefined when there is nothing at that address. */
async function readIndex(
  sender: Sender,
  { site, url, digest }: { site: Site; url: URL; digest: Digest },
  signal: AbortSignal,
): Promise<Descriptor[] | undefined> {
  const what = `list what refers to ${digest} of ${site.source.reference.text}`
  const errand = errandFor(site, { method: 'GET', url, what, headers: { accept: MEDIA.ociIndex } })
  await using answer = await sender.send(errand, signal)
  if ([400, 404, 405, 501].includes(answer.status)) return undefined
  if (answer.status !== 200) throw await refusal(errand, answer)
  const body = await readBounded(answer, MAX_MANIFEST_BYTES, `the referrers of ${digest}`)
  return [...parseIndex(body, MEDIA.ociIndex).manifests]
}
