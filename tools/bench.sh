#!/bin/sh
# Measures Gantry beside Debian's containerd on this machine.
#
#   sh tools/bench.sh                     everything in small
#   sh tools/bench.sh NAME [OPTIONS]      one of e2e/bench: run, density, cycles, pull (large images, --cold), api
set -eu
cd "$(dirname "$0")/.."
sh tools/prepare.sh bench
bench=${1:-bench}
[ $# -eq 0 ] || shift
[ -f "e2e/bench/$bench.ts" ] || {
  echo "usage: sh tools/bench.sh [run | density | cycles | pull [--cold] | api]" >&2
  exit 2
}
exec node_modules/.bin/node "e2e/bench/$bench.ts" "$@"

