#!/bin/sh
# The entry point of the image: starts one process of a node, or the bus they need. GANTRY_ROOT and GANTRY_STATE are its folders.
#
#   start.sh metadata|content|snapshots|tasks|gateway|nats
set -eu
umask 077
chmod 700 "$GANTRY_ROOT" "$GANTRY_STATE" # docker makes them for everybody

# As `gantry up` starts its own: on loopback, with a token that is new at each start, and its address where all look for it.
nats() {
  token=$(cat /proc/sys/kernel/random/uuid)
  bus=$GANTRY_STATE/nats
  mkdir -p "$GANTRY_ROOT/nats" "$bus"
  cat >"$bus/nats.conf" <<CONF
listen: "127.0.0.1:$GANTRY_NATS_PORT"
authorization { token: "$token" }
jetstream { store_dir: "$GANTRY_ROOT/nats", max_memory_store: 16MB, max_file_store: 64GB }
CONF
  echo "nats://$token@127.0.0.1:$GANTRY_NATS_PORT" >"$bus/url.new"
  mv "$bus/url.new" "$bus/url"
  exec nats-server -c "$bus/nats.conf"
}

[ "$1" != nats ] || nats
main=/gantry/apps/$1/dist/main.mjs
[ -f "$main" ] || main=/gantry/apps/$1/main.ts
exec node "$main" --root "$GANTRY_ROOT" --state "$GANTRY_STATE"
