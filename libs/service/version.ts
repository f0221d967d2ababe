/** Of all processes: they are made and installed together. */
export const VERSION = '0.1.0'
