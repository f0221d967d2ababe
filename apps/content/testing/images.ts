import type { ImageRecord, Images } from '../images.ts'

/** Image records in memory, by their names. */
export function playImages(): { readonly images: Images; readonly records: Map<string, ImageRecord> } {
  const records = new Map<string, ImageRecord>()
  const images: Images = {
    target: async (_, name) => {
      const record = records.get(name)
      if (!record) throw new Error(`image "${name}": not found`)
      return record.target
    },
    put: async (_, record) => void records.set(record.name, record),
  }
  return { images, records }
}
