#!/bin/sh
# Shows Gantry at work on this machine and leaves nothing behind.
#
#   npm run demo
#   IMAGE=docker.io/library/alpine:3 npm run demo      pulls that image instead of one made here
set -eu
cd "$(dirname "$0")/.."
sh tools/prepare.sh demo
exec node_modules/.bin/node tools/demo.ts
