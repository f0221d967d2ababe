#!/bin/sh
# conmon, but out of the cgroups of the container it is started in: with them docker would end it when `tasks` is
# restarted, and the exit of what it watches would be lost. The cgroup `gantry-monitors` stays on the host, empty.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
  [ -e "$hierarchy/cgroup.procs" ] || continue
  mkdir -p "$hierarchy/gantry-monitors"
  echo $$ >"$hierarchy/gantry-monitors/cgroup.procs"
done 2>/dev/null
exec conmon "$@"
