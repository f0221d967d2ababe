#!/bin/sh
# Measures Gantry beside Debian's containerd on this machine.
#
#   sh tools/bench.sh                     everything in small
#   sh tools/bench.sh NAME [OPTIONS]      one of tools/bench: run, density, cycles, pull (large images, --cold), api, scale, events
set -eu
cd "$(dirname "$0")/.."
sh tools/prepare.sh bench
bench=${1:-bench}
[ $# -eq 0 ] || shift
[ -f "tools/bench/$bench.ts" ] || {
  echo "usage: sh tools/bench.sh [run | density | cycles | pull [--cold] | api | scale [--part 0.1] | events [--count N]]" >&2
  exit 2
}
exec node_modules/.bin/node "tools/bench/$bench.ts" "$@"

