#!/bin/sh
# Measures Gantry beside Debian's containerd on this machine.
#
#   sh tools/bench.sh [pull [--cold]]    everything in small, or pulls of large images
set -eu
cd "$(dirname "$0")/.."
sh tools/prepare.sh bench
bench=${1:-bench}
[ $# -eq 0 ] || shift
[ -f "e2e/bench/$bench.ts" ] || {
  echo "usage: sh tools/bench.sh [pull [--cold]]" >&2
  exit 2
}
exec node_modules/.bin/node "e2e/bench/$bench.ts" "$@"

