/** The version of the command line; all packages of the repository share one. */
export const VERSION = '0.1.0'
