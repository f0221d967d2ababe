const { readFileSync, statSync } = require('node:fs')
const { join } = require('node:path')

/** Was what lies in `dist` made of the sources as they are? Says no when there is nothing. */
function isFresh(dist) {
  try {
    const inputs = JSON.parse(readFileSync(join(dist, 'inputs.json'), 'utf8'))
    return inputs.every(([path, stamp]) => stampOf(path) === stamp)
  } catch {
    return false
  }
}

/** Changes whenever the file is written. */
function stampOf(path) {
  const { mtimeMs, size } = statSync(path)
  return `${mtimeMs} ${size}`
}

module.exports = { isFresh, stampOf }
