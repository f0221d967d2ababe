#!/bin/sh
# Measures Gantry beside Debian's containerd on this machine.
set -eu
cd "$(dirname "$0")/.."
sh tools/prepare.sh bench
exec node_modules/.bin/node e2e/bench/bench.ts
