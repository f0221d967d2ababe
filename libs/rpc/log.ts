/** The part of a pino logger that this package uses: an object of fields, then a message. */
export interface Log {
  error(fields: object, message: string): void
  debug(fields: object, message: string): void
}
