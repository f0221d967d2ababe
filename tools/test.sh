#!/bin/sh
# Everything that judges Gantry. The last line is `N passed, N failed, N skipped`.
#
#   npm test                  all of it
#   npm test -- units         lint, types and unit tests only
#   npm test -- e2e [file]    end-to-end tests only
set -eu
cd "$(dirname "$0")/.."
sh tools/prepare.sh test
exec node_modules/.bin/node tools/test.ts "$@"
